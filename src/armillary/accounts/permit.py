"""May this actor do this to that? The one place that answers."""

from typing import Literal

from armillary.accounts.actor import Actor
from armillary.base.errors import NotAllowed

Verb = Literal["see", "change", "administer"]

# The visibility predicate of every list query; its parameters are `actor.scope`.
VISIBLE = '(%(all_groups)s or "group" = any(%(groups)s))'


def permit(actor: Actor, verb: Verb, group: str) -> None:
    """Refuse with `NotAllowed` unless the actor may `verb` things of `group`."""
    if not may(actor, verb, group):
        raise NotAllowed(
            f"{actor.account} may not {verb} what belongs to group {group}.", "Ask an owner of that group."
        )


def may(actor: Actor, verb: Verb, group: str) -> bool:
    """Whether the actor may; workers reach only what their leases name, which the lease itself checks."""
    if actor.is_owner or actor.kind == "system":
        return True
    return actor.kind == "user" and verb != "administer" and actor.group == group


def administer(actor: Actor) -> None:
    """Refuse whoever does not own this instance."""
    if not (actor.is_owner or actor.kind == "system"):
        raise NotAllowed(f"{actor.account} does not administer this instance.", "Use the owner's token.")
