"""An instance in processes of its own."""

import shutil

import pytest

from armillary.testing.instance import Instance


@pytest.fixture
def new_instance(tmp_path_factory):
    """Start an instance of a test's own, with lines of `config.yaml` and variables of its own."""
    made = []

    def start(config: str = "", **environment: str) -> Instance:
        home = tmp_path_factory.mktemp("instance")
        (home / "config.yaml").write_text(config)
        made.append(Instance(home, **environment))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()
        shutil.rmtree(one.home, ignore_errors=True)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """A running instance, whose processes die where its file `crash` says; its own folder goes with it."""
    home = tmp_path_factory.mktemp("instance")
    made = Instance(home, ARMILLARY_CRASH=f"@{home / 'crash'}")
    made.start()
    made.apply(home / "definitions")
    yield made
    (home / "crash").unlink(missing_ok=True)
    made.close()
    shutil.rmtree(home, ignore_errors=True)
