"""Register versions of algorithms, which never change, and find the one that a selector means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from armillary.accounts.actor import Actor, system
from armillary.accounts.permit import permit
from armillary.algorithms import specfile, store
from armillary.algorithms.algorithm import Registered
from armillary.algorithms.bundle import Bundle, known
from armillary.algorithms.parameters import check_schema
from armillary.base import events
from armillary.base.canonical import digest_of
from armillary.base.db import Transaction
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.base.storage import Store


@dataclass(frozen=True)
class Registration:
    """What registering did."""

    registered: Registered
    is_new: bool


async def register(tx: Transaction, actor: Actor, document: Mapping[str, Any], bundle: Bundle | None) -> Registration:
    """Store a version; its bundle's bytes are in the store already. The same again is the same."""
    permit(actor, "change", actor.group)
    wished = prepare(actor, document, bundle)
    if bundle is None and wished.algorithm.environment.get("lock"):
        raise UsageError(
            "environment.lock names a file, but no bundle of the folder came with the document.",
            "Apply the algorithm's folder or its algorithm.yaml inside it.",
            field="environment.lock",
        )
    return await _store(tx, actor, wished)


async def bundle_of(objects: Store, document: Mapping[str, Any]) -> Bundle | None:
    """The bundle that a document carries, found in the store; before any transaction."""
    carried = document.get("bundle")
    if carried is None:
        return None
    if (
        not isinstance(carried, Mapping)
        or not isinstance(carried.get("sha256"), str)
        or not isinstance(carried.get("size"), int)
    ):
        raise UsageError("bundle is not {sha256, size}.", "Send the bundle first and name it so.", field="bundle")
    return await known(objects, carried["sha256"], carried["size"])


async def register_builtin(tx: Transaction, document: Mapping[str, Any]) -> Registration:
    """Store a version that comes with Armillary itself: nothing to fetch, the runner holds its code."""
    actor = system("builtin")
    return await _store(tx, actor, prepare(actor, document, None))


def prepare(actor: Actor, document: Mapping[str, Any], bundle: Bundle | None) -> Registered:
    """The version that a document and a bundle make, checked; nothing is stored."""
    algorithm = specfile.check(document)
    check_schema(algorithm)
    sha256 = bundle.sha256 if bundle else None
    return Registered(
        algorithm=algorithm,
        digest=digest_of({"spec": algorithm.spec, "bundle": sha256}),
        group=actor.group,
        bundle_sha256=sha256,
        bundle_size=bundle.size_bytes if bundle else None,
        bundle_key=bundle.key if bundle else None,
        registered_by=actor.account,
    )


async def resolve(tx: Transaction, actor: Actor, id: str, selector: str | None = None) -> Registered:  # noqa: A002
    """The newest version that the selector allows: "1" is the newest 1.x, none the newest of all."""
    if selector is not None and not re.fullmatch(specfile.VERSION, selector):
        raise UsageError(f"version {selector!r} is not a version.", 'Write "1", "1.2" or "1.2.0".', field="version")
    found = await store.find(tx, actor.scope, id, selector)
    if found is not None:
        return found
    if selector is not None and (newest := await store.find(tx, actor.scope, id, None)):
        raise NotFound(
            f"Algorithm {id} has no version {selector}; its newest is {newest.algorithm.version}.",
            f"`armillary algorithm show {id}` lists them.",
            field="version",
        )
    raise NotFound(f"There is no algorithm {id}.", "`armillary algorithm list` shows what there is.", field="algorithm")


async def by_digest(tx: Transaction, digest: str) -> Registered:
    """The exact version that a job was submitted with."""
    found = await store.by_digest(tx, digest)
    if found is None:
        raise NotFound(f"There is no algorithm with the digest {digest}.", "")
    return found


async def _store(tx: Transaction, actor: Actor, wished: Registered) -> Registration:
    algorithm = wished.algorithm
    if await store.insert(tx, wished):
        await events.emit(
            tx,
            subject=f"algorithm:{algorithm.id}@{algorithm.version}",
            version=1,
            kind="algorithm.registered",
            actor=actor.account,
            group=actor.group,
            detail={"digest": wished.digest},
        )
        return Registration(wished, is_new=True)
    found = await store.find(tx, system("algorithms").scope, algorithm.id, algorithm.version)
    assert found is not None
    if found.digest != wished.digest:
        what = "another bundle" if found.algorithm.spec == algorithm.spec else "another document"
        raise Conflict(
            f"{algorithm.id} {algorithm.version} is registered with {what}, and a version never changes.",
            "Raise the version and apply again.",
            field="version",
        )
    return Registration(found, is_new=False)
