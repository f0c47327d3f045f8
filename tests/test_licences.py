"""Whatever is locked may be shipped beside Apache-2.0: every distribution's licence is on a list."""

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC", "LGPL-2.1-or-later",
    "LGPL-3.0", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "PostgreSQL",
    "Python-2.0", "Python-2.0.1", "Unlicense", "Zlib", "NCSA", "BSL-1.0", "Unicode-3.0",
}  # fmt: skip
# How others write the same licences.
SPELLINGS = {
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache software license 2.0": "Apache-2.0",
    "bsd license": "BSD", "bsd 3-clause": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "new bsd": "BSD-3-Clause", "new bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC", "mit license": "MIT", "the mit license (mit)": "MIT", "the unlicense (unlicense)": "Unlicense",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.1-or-later",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
    "zlib/libpng license": "Zlib",
}  # fmt: skip
# GPL, and therefore a separate program in an environment of its own, which the rest never loads.
SEPARATE = {"cube": {"ducc0"}}


def locked(lock: Path) -> set[str]:
    """The names in a lock, as PyPI normalises them."""
    return {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def stated(distribution: Distribution) -> list[str]:
    """What a distribution's metadata say: an expression, else classifiers, else free text."""
    metadata = distribution.metadata
    if expression := metadata["License-Expression"]:
        return [str(expression)]
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    short = [line.rpartition("::")[2].strip() for line in classifiers if not line.endswith("OSI Approved")]
    if short:
        return short
    text = str(metadata["License"] or "").strip()
    text = (
        text or (distribution.read_text(f"licenses/{metadata['License-File']}") or "").strip()
    )  # its title is the first line
    return [text.splitlines()[0].strip()] if text else []


def licences_here() -> dict[str, list[str]]:
    """Of each distribution that this interpreter sees."""
    return {normal(found.metadata["Name"]): stated(found) for found in distributions()}


def is_allowed(statement: str) -> bool:
    """Whether every part that holds of an expression is on the list; of alternatives one suffices."""
    if statement.lower() in SPELLINGS:
        return True
    alternatives = re.split(r"\s+OR\s+", statement.replace("(", " ").replace(")", " "))
    return any(all(is_known(part) for part in re.split(r"\s+AND\s+", choice)) for choice in alternatives)


def is_known(part: str) -> bool:
    name = part.partition(" WITH ")[0].strip()
    return name in ALLOWED or name.lower() in SPELLINGS


def interpreter(part: str) -> str:
    """The Python of a part's environment."""
    if part == "core":
        return sys.executable
    python = ROOT / ".venvs" / part / "bin" / "python"
    if not python.with_name("pytest").exists():  # the demo makes a smaller one
        pytest.skip(f"the environment of algorithms/{part} is not made: make lint makes it")
    return str(python)


@pytest.mark.parametrize(
    ("part", "lock"),
    [
        ("core", "requirements.lock"),
        ("core", "algorithms/browse/requirements.lock"),
        ("insar", "algorithms/insar/requirements.lock"),
        ("cube", "algorithms/cube/requirements.lock"),
    ],
)
def test_every_locked_distribution_may_be_shipped(part: str, lock: str) -> None:
    printed = subprocess.check_output([interpreter(part), __file__], text=True)
    found: dict[str, list[str]] = json.loads(printed)
    refused = {}
    for name in locked(ROOT / lock) & set(found):
        if name not in SEPARATE.get(part, set()) and not (found[name] and all(map(is_allowed, found[name]))):
            refused[name] = found[name]
    assert not refused


@pytest.mark.parametrize("statement", ["GPL-3.0-or-later", "MIT AND GPL-2.0-only", "Proprietary", ""])
def test_what_may_not_be_shipped_is_refused(statement: str) -> None:
    assert not is_allowed(statement)


@pytest.mark.parametrize("statement", ["MIT", "Apache Software License", "GPL-2.0-only OR MIT", "(MIT AND PSF-2.0)"])
def test_what_may_be_shipped_is_not(statement: str) -> None:
    assert is_allowed(statement)


if __name__ == "__main__":
    print(json.dumps(licences_here()))
