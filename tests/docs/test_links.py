"""Links between the documents lead somewhere."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(
    r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE
)


def documents() -> list[Path]:
    """Every Markdown file that is, or is about to be, under version control."""
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, text=True
    )
    return sorted(path for line in listed.splitlines() if (path := ROOT / line).exists())


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^(```+|~~~+).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def anchors(document: Path) -> frozenset[str]:
    """The names that a document's headings get: in lower case, spaces as hyphens, punctuation left out."""
    text = re.sub(r"^(```+|~~~+).*?^\1\s*$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", line) for line in re.findall(r"^#+\s+(.+?)\s*$", text, re.MULTILINE))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = []
    for found in LINK.findall(without_code(document.read_text())):
        target = next(filter(None, found))
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # the world outside is not asked
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        is_there = file.exists() and ROOT in (file, *file.parents)
        if not is_there or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(target)
    assert not dead


def test_every_file_named_in_the_map_is_there() -> None:
    package = ROOT / "src" / "armillary"
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py|[a-z_]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text()))
    assert len(named) > 20
    assert not sorted(name for name in named if not (package / name).exists())
