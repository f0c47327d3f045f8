"""The reference pages that are made from the code are as the code is."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_page_is_as_the_code_is(name):
    assert (DOCS / "reference" / name).read_text() == generate.PAGES[name](), "run python docs/generate.py"
