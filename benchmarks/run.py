"""List the benchmarks, or run some of them by name: `make bench ARGS="trigger --granules 100000"`.

Without a name all run that need nothing but Armillary's own environment. `--quick` runs tiny sizes, which show that they
work and measure nothing; `--list` lists them. A benchmark is a file here whose first sentence says what it measures,
with its tiny arguments as QUICK; one for which an algorithm's own environment is needed names that as ENVIRONMENT.
"""

import ast
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Benchmark:
    """One file, as far as it can be told without running it."""

    path: Path
    sentence: str
    quick: tuple[str, ...]
    environment: str | None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.stem

    @property
    def python(self) -> Path:
        """Which Python runs it."""
        return ROOT / ".venvs" / self.environment / "bin" / "python" if self.environment else Path(sys.executable)


def main(arguments: Sequence[str]) -> int:
    """Run what is named, with the rest as its arguments; the exit code is that of the first that failed."""
    known = {one.name: one for one in map(read, sorted(HERE.glob("*.py"))) if one is not None}
    words = list(arguments)
    names = [word for word in words if word in known]
    options = [word for word in words if word not in known]
    if {"--list", "--help", "-h"} & set(options) and not names:
        print(f"{__doc__}\n{listing(list(known.values()))}")
        return 0
    unknown = options[0] if options and not names and not options[0].startswith("-") else None
    if unknown:
        print(f"There is no benchmark {unknown!r}.\n\n{listing(list(known.values()))}", file=sys.stderr)
        return 2
    is_quick = "--quick" in options
    options = [word for word in options if word != "--quick"]
    alone = [one for one in known.values() if one.environment is None and (one.quick or not is_quick)]
    chosen = [known[name] for name in names] or alone
    return next((code for one in chosen if (code := run(one, [*(one.quick if is_quick else ()), *options]))), 0)


def run(benchmark: Benchmark, arguments: Sequence[str]) -> int:
    """One, in a process of its own."""
    print(f"\n{benchmark.name}: {benchmark.sentence}", flush=True)
    if not benchmark.python.exists():
        print(f"It needs the environment of algorithms/{benchmark.environment}: make test-{benchmark.environment}")
        return 1
    return subprocess.call([benchmark.python, benchmark.path, *arguments])


def read(path: Path) -> Benchmark | None:
    """A benchmark, if the file has a main function and is not this one."""
    tree = ast.parse(path.read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if path == Path(__file__) or "main" not in functions:
        return None
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    said = {name: ast.literal_eval(constants[name]) for name in ("QUICK", "ENVIRONMENT") if name in constants}
    sentence = (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")
    return Benchmark(path, sentence, tuple(said.get("QUICK", ())), said.get("ENVIRONMENT"))


def listing(benchmarks: Sequence[Benchmark]) -> str:
    """A line for each."""
    return "\n".join(f"  {one.name:18} {one.sentence}" for one in benchmarks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
