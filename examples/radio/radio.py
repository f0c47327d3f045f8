"""A galaxy from visibilities to a moving map inside a running Armillary: by one job with threads, then by two that are joined.

The observation is the one that is named, else NGC 5921 where ARMILLARY_TEST_DATA (or ../shared/data) holds it, else a simulated
galaxy. All is done through the command line; what is run is shown. A second run takes up what is there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (Path(sys.executable).parent, Path(os.environ.get("CUBE_ENV", ROOT / ".venvs" / "cube")) / "bin")
BLOCK_RULES = ("radio-cube-block-1-of-2", "radio-cube-block-2-of-2")
JOIN_RULE = "radio-cube-join"
PATIENCE_SECONDS = 1800.0  # the first job of all waits for the imager's environment


def main() -> None:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".radio", help="Armillary's home, made if it is not there.")
    parser.add_argument("--observation", type=Path, help="A measurement set, processing set or UVFITS file.")
    parser.add_argument("--channels", type=int, default=32, help="Of the simulated galaxy.")
    parser.add_argument(
        "--parameters", type=json.loads, help="Of the algorithm, as JSON, for an observation that is named."
    )
    chosen = parser.parse_args()
    story = Story(chosen.home.resolve())
    if not story.answers():
        story.run("up", "--detach", "--port", "0")
    observation, parameters = story.observation(chosen)
    story.apply(parameters)
    print("\nOne job with threads")
    story.run("ingest", str(observation))
    whole = story.wait("a cube", lambda: story.cube("cube"))
    print("\nTwo jobs, a block of channels each, and one that joins them")
    story.apply(parameters, by_blocks=True)
    for rule in (*BLOCK_RULES, JOIN_RULE):
        story.run("rule", "backfill", rule)
    joined = story.wait("the joined cube", lambda: story.cube("cube-join"))
    report(story, whole, joined)


class Story:
    """One home, and what a person does with it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        path = os.pathsep.join([*map(str, PROGRAMS), os.environ.get("PATH", "")])
        self.environment = {**os.environ, "PATH": path}

    def run(self, *arguments: str) -> None:
        """Run a command as a person would, and show it."""
        print(f"  $ armillary {' '.join(arguments)}", flush=True)
        result = self._call("armillary", "--home", str(self.home), *arguments)
        print(
            "".join(f"    {line}\n" for line in (result.stdout + result.stderr).splitlines()[-8:]), end="", flush=True
        )
        if result.returncode:
            sys.exit(f"`armillary {' '.join(arguments)}` ended with {result.returncode}.")

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command lists: a JSON document a line."""
        return [json.loads(line) for line in self._json(*arguments).splitlines()]

    def shown(self, *arguments: str) -> dict[str, Any]:
        """The one document that a command shows."""
        found: dict[str, Any] = json.loads(self._json(*arguments))
        return found

    def _json(self, *arguments: str) -> str:
        result = self._call("armillary", "--home", str(self.home), *arguments, "--json")
        if result.returncode:
            sys.exit(result.stderr)
        return result.stdout

    def answers(self) -> bool:
        """Whether the server is there already."""
        return self._call("armillary", "--home", str(self.home), "status", "--json").returncode == 0

    def _call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)

    def observation(self, chosen: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
        """The observation and the parameters that suit it."""
        data = Path(os.environ.get("ARMILLARY_TEST_DATA", ROOT.parent / "shared" / "data"))
        real = data / "radio" / "ngc5921_vla_hi.ps.zarr"
        if chosen.observation:
            return chosen.observation.resolve(), chosen.parameters or {}
        suited = {"cell_arcsec": 15.0, "size": [256, 256], "sigma": 3.0}
        if real.is_dir():
            # The band's first channels are too noisy to be worth a picture.
            return real, {**suited, "channels": [5, 50], "continuum_channels": [[4, 6], [50, 59]]}
        path = self.home / "galaxy.ps.zarr"
        if not path.exists():
            print(f"  $ armillary-cube simulate {path} --channels {chosen.channels}", flush=True)
            made = self._call("armillary-cube", "simulate", str(path), "--channels", str(chosen.channels))
            if made.returncode:
                sys.exit(f"{made.stderr}Make the imager's environment first: make -C algorithms/cube env")
        edge = max(1, chosen.channels // 10)
        free = [[0, edge - 1], [chosen.channels - edge, chosen.channels - 1]]
        return path, {**suited, "continuum_channels": free}

    def apply(self, parameters: dict[str, Any], *, by_blocks: bool = False) -> None:
        """The algorithm's own folder, then its rules with this observation's parameters."""
        visibilities = {"visibilities": {"collection": "radio-visibilities"}}
        rules = [{"kind": "rule", "id": "radio-cube", "enabled": not by_blocks, "when": visibilities,
                  "then": {"run": "cube", "version": "0", "parameters": parameters}}]  # fmt: skip
        for number, rule in enumerate(BLOCK_RULES, start=1):
            block = {**parameters, "block": number, "blocks": len(BLOCK_RULES)}
            rules.append({"kind": "rule", "id": rule, "enabled": by_blocks, "when": visibilities,
                          "then": {"run": "cube-block", "version": "0", "parameters": block}})  # fmt: skip
        definitions = self.home / "rules.yaml"
        definitions.write_text("\n---\n".join(json.dumps(rule, indent=1) for rule in rules))
        if not by_blocks:
            self.run("apply", str(ROOT / "algorithms" / "cube"))
        self.run("apply", str(definitions))
        if by_blocks:
            self.run("rule", "enable", JOIN_RULE)

    def cube(self, algorithm: str) -> dict[str, Any] | None:
        """The newest product of the algorithm, with its job; ends if its job or one before it has failed."""
        for job in self.listed("job", "list"):
            if job["state"] in ("failed", "cancelled"):
                self.run("job", "show", job["id"])
                sys.exit(f"Job {job['id']} {job['state']}.")
        for job in self.listed("job", "list", "--algorithm", algorithm, "--state", "succeeded"):
            details = self.shown("job", "show", job["id"])
            [output] = details["outputs"]
            granule = self.shown("granule", "show", f"{output['collection']}/{output['id']}")
            return {"job": details, "granule": granule}
        return None

    def wait(self, what: str, question: Callable[[], Any]) -> Any:
        """Ask until there is an answer."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (answer := question()):
            if time.monotonic() > deadline:
                sys.exit(f"There is no {what} after {PATIENCE_SECONDS:.0f} s; look at `armillary job list`.")
            time.sleep(1.0)
        print(f"  {what}: {answer['granule']['id']}, revision {answer['granule']['revision']}")
        return answer


def planes(cube: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of every plane of a catalogued cube, by its place in the Zarr."""
    return {file["path"]: file["sha256"] for file in cube["granule"]["files"] if "/c/0/" in file["path"]}


def report(story: Story, whole: dict[str, Any], joined: dict[str, Any]) -> None:
    """What came of it, and how to go on."""
    first, second = planes(whole), planes(joined)
    if not first or first != second:
        sys.exit("The planes of one job and of two are not the same.")
    print(f"  {len(first)} arrays and planes, the same bits by one job and by blocks")
    server = json.loads((story.home / "run" / "server.json").read_text())
    granule = joined["granule"]
    print("\nWhat it holds")
    for name, value in (whole["job"]["result"] or {}).items():
        print(f"  {name:26}{value}")
    print("\nArmillary goes on running")
    print(f"  sign in (once)   {server['sign_in']}")
    print(f"  the cube         {server['url']}/granules/{granule['collection']}/{granule['id']}")
    print(f"  stop             armillary --home {story.home} down")


if __name__ == "__main__":
    main()
