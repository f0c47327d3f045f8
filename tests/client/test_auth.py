"""The server and the token are found where they are meant to be, and a token never goes astray."""

import json
from pathlib import Path

import pytest

from armillary.base.errors import UsageError
from armillary.client.auth import SignIn, find


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:8000/", "pid": 1}))
    (tmp_path / "owner-token").write_text("owner\n")
    return tmp_path


def test_the_home_of_a_running_server_says_all(home: Path) -> None:
    assert find(home=home, environment={}) == SignIn("http://127.0.0.1:8000", "owner")
    assert find(environment={"ARMILLARY_HOME": str(home)}) == SignIn("http://127.0.0.1:8000", "owner")


def test_the_environment_beats_the_home_and_an_argument_beats_both(home: Path) -> None:
    environment = {"ARMILLARY_URL": "https://a", "ARMILLARY_TOKEN": "t"}
    assert find(home=home, environment=environment) == SignIn("https://a", "t")
    assert find("https://b", "u", home, environment) == SignIn("https://b", "u")
    assert find(home=home, environment={"ARMILLARY_TOKEN": "t"}) == SignIn("http://127.0.0.1:8000", "t")


def test_the_owners_token_is_not_sent_to_another_server(home: Path) -> None:
    with pytest.raises(UsageError, match="no token for https://elsewhere"):
        find("https://elsewhere", home=home, environment={})
    assert find("http://127.0.0.1:8000", home=home, environment={}).token == "owner"


@pytest.mark.parametrize("content", ["", "{}", '{"url": "ftp://x"}', "[1]"])
def test_a_broken_home_is_named(home: Path, content: str) -> None:
    (home / "run" / "server.json").write_text(content)
    with pytest.raises(UsageError):
        find(home=home, environment={})


def test_no_server_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="armillary up"):
        find(home=tmp_path, environment={})
    with pytest.raises(UsageError, match="ARMILLARY_TOKEN"):
        find("http://127.0.0.1:1", home=tmp_path, environment={})
