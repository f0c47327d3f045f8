"""Actor: on whose behalf a function acts."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID


@dataclass(frozen=True)
class Actor:
    """Who asks. Every public function takes one."""

    account: str
    group: str
    is_owner: bool = False
    kind: Literal["user", "worker", "worker-start", "metrics", "system"] = "user"
    pool: str | None = None
    worker_id: UUID | None = None
    token: UUID | None = None  # the pool's token by which a worker comes

    @property
    def scope(self) -> dict[str, Any]:
        """Parameters of the visibility predicate that every list query carries (`permit.VISIBLE`)."""
        return {"all_groups": self.is_owner or self.kind == "system", "groups": [self.group]}


def system(part: str, group: str = "owners") -> Actor:
    """The system itself, in the name of one of its parts."""
    return Actor(f"system:{part}", group, kind="system")
