"""A seeded list of faults: what is broken, whose it is, and for how long. Pure, so that a seed is a whole run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

# Longer than a worker's time to live (4 s in these runs), and shorter.
SHORT, LONG = (0.3, 2.0), (4.5, 6.5)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, `seconds` long where it lasts, and how long things then go on before the next."""

    kind: str
    target: str
    seconds: float = 0.0
    pause_seconds: float = 0.5

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" {self.seconds:.1f} s" if self.seconds else "")


# What can go wrong; how often each comes in a round, in which every crash point comes once as well.
ROUND = {
    ("kill", "server"): 2, ("kill", "reactor"): 2, ("kill", "runner"): 3, ("kill", "job"): 2, ("kill", "postgres"): 1,
    ("freeze", "server"): 1, ("freeze", "reactor"): 1, ("freeze", "runner"): 3, ("freeze", "job"): 1, ("freeze", "postgres"): 1,
    ("cut", "line"): 2, ("slow", "line"): 2, ("refuse", "line"): 2, ("deaf", "line"): 2, ("replay", "reports"): 4,
    ("fill", "database"): 1, ("fill", "store"): 1, ("fill", "cache"): 1, ("fill", "work"): 1,
    ("jump", "forwards"): 2, ("jump", "backwards"): 1,
}  # fmt: skip
# Seconds. What was due before the clock was set back waits as long again, and faults at what stands still prove nothing.
JUMPS = {"forwards": (5.0, 60.0, 900.0), "backwards": (5.0, 20.0, 60.0)}
LASTING = ("freeze", "slow", "refuse", "deaf", "fill")


def faults(seed: int, how_many: int, points: Sequence[str]) -> list[Fault]:
    """So many faults: round after round of everything there is, each round in an order of its own."""
    chance = random.Random(seed)

    def rounds() -> "list[tuple[str, str]]":
        deck = [one for one, times in ROUND.items() for _ in range(times)] + [("crash", point) for point in points]
        chance.shuffle(deck)
        return deck

    return list(islice((_fault(chance, *one) for _ in count() for one in rounds()), how_many))


def _fault(chance: random.Random, kind: str, target: str) -> Fault:
    seconds = 0.0
    if kind in LASTING:
        seconds = chance.uniform(*(LONG if chance.random() < 0.4 else SHORT))
    if kind == "jump":
        seconds = chance.choice(JUMPS[target])
    return Fault(kind, target, seconds, chance.uniform(0.2, 1.2))
