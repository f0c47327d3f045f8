"""Definitions from files: which are taken, checked with their place, each once, and written as they were read."""

from pathlib import Path
from typing import Any

import pytest

from armillary.base.errors import Conflict, UsageError
from armillary.base.yamlfile import load
from armillary.cli.definition import Definition, _placed, _sent, distinct, read, text_of

ALGORITHM = """\
kind: algorithm
id: count
version: 1.0.0
run: {command: [python, run.py]}
environment: {site: true}
"""


def names(paths: list[Path]) -> list[str]:
    return [definition.name for definition in read(paths)]


def test_a_folder_is_read_deeply_and_an_algorithms_folder_at_its_top(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("kind: collection\nid: b\n---\nkind: pool\nid: p")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.json").write_text('{"kind": "collection", "id": "c"}')
    (tmp_path / ".hidden.yaml").write_text("kind: collection\nid: hidden")
    algorithm = tmp_path / "count"
    (algorithm / "tests").mkdir(parents=True)
    (algorithm / "algorithm.yaml").write_text(ALGORITHM)
    (algorithm / "rules.yaml").write_text("kind: rule\nid: r")
    (algorithm / "settings.json").write_text('{"kind": "of the algorithm\'s own"}')
    (algorithm / "tests" / "sample.yaml").write_text("kind: collection\nid: of-a-test")
    assert names([tmp_path]) == ["collection b", "pool p", "algorithm count", "rule r", "collection c"]


def test_an_algorithm_goes_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "algorithm.yaml").write_text(ALGORITHM)
    (definition,) = read([tmp_path / "algorithm.yaml"])
    assert definition.folder == tmp_path


def test_algorithms_in_one_folder_share_one_bundle_that_is_sent_once(tmp_path: Path) -> None:
    (tmp_path / "algorithm.yaml").write_text(ALGORITHM)
    (tmp_path / "algorithm-more.yaml").write_text(
        f"{ALGORITHM.replace('count', 'more')}---\n{ALGORITHM.replace('count', 'most')}"
    )
    (tmp_path / "run.py").write_text("print(1)")
    (tmp_path / "rules.yaml").write_text("kind: rule\nid: r")
    sent: list[str] = []

    class Client:
        def request(self, method: str, path: str, **_: Any) -> None:
            sent.append(f"{method} {path}")

    documents = _sent(Client(), list(read([tmp_path])))  # type: ignore[arg-type]
    bundles = [document.get("bundle") for document in documents]
    assert [document["id"] for document in documents] == ["more", "most", "count", "r"]
    assert bundles[:3] == [bundles[0]] * 3
    assert bundles[3] is None
    assert sent == [f"PUT /api/bundles/{bundles[0]['sha256']}"]


def test_other_yaml_in_a_folder_is_left_out_and_said_so_but_refused_where_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text("services: []")
    assert names([tmp_path]) == []
    assert "other.yaml:1:1: left out, it has no kind." in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"other\.yaml:1:1: this document has no kind"):
        names([tmp_path / "other.yaml"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: collection\nid: a\nrecognise:\n  name: '['", r"d\.yaml:4:9: recognise\.name: unterminated"),
        ("kind: collection\nid: a\ncolour: red", r"d\.yaml:3:9: Collection field 'colour' is unknown"),
        (ALGORITHM.replace("1.0.0", "1.0"), r"d\.yaml:3:10: version is the number 1\.0"),
        (ALGORITHM + "inputs:\n  one: {colection: x}", r"d\.yaml:7:20: inputs\.one\.colection is not known"),
        ("kind: pool\nid: a\nid: b", r"d\.yaml:3:1: the key 'id' is here twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(UsageError, match=said):
        names([tmp_path / "d.yaml"])


def test_what_the_server_refuses_gets_its_place_as_well(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("kind: pool\nid: a\n---\nkind: rule\nid: r\nwhen:\n  one: {collection: x}")
    definitions = list(read([tmp_path / "d.yaml"]))
    placed = _placed(Conflict("rule r: collection 'x' is not there.", field="when.one.collection"), definitions)
    assert placed.message.endswith("d.yaml:7:21: rule r: collection 'x' is not there.")
    assert isinstance(placed, Conflict)
    unknown = Conflict("The database is full.")
    assert _placed(unknown, definitions) is unknown


def test_the_same_definition_twice_is_one_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, title in (("1", "same"), ("2", "same"), ("3", "other")):
        (tmp_path / f"{name}.yaml").write_text(f"kind: collection\nid: a\ntitle: {title}")

    def some(*files: str) -> list[Definition]:
        return distinct(read([tmp_path / file for file in files]))

    assert len(some("1.yaml", "2.yaml")) == 1
    with pytest.raises(UsageError, match=r"3\.yaml:1:1: collection a is another in .*1\.yaml:1:1"):
        some("1.yaml", "3.yaml")


def test_a_definition_is_written_as_it_is_read() -> None:
    document: dict[str, Any] = {
        "recognise": {"name": r"^S1.*\.zip$"}, "retry": {"on": ["lost"]}, "kind": "x", "version": "1.10", "id": "e1",
    }  # fmt: skip
    text = text_of(document)
    assert load(text) == document
    assert text.startswith("kind: x\nid: e1\n")
