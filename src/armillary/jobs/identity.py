"""What makes two submissions the same work: algorithm version, parameters and input revisions; never who asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from armillary.algorithms.algorithm import Input
from armillary.base.canonical import digest_of
from armillary.granules.granule import Reference


def identity(
    algorithm_digest: str,
    declared: Mapping[str, Input],
    inputs: Mapping[str, Sequence[Reference]],
    parameters: Mapping[str, Any],
) -> str:
    """SHA-256 of the work; `parameters` hold their defaults, and a role's order counts only where that is declared."""
    return digest_of(
        {
            "algorithm": algorithm_digest,
            "parameters": parameters,
            "inputs": {role: _revisions(found, declared[role].is_ordered) for role, found in inputs.items() if found},
        }
    )


def _revisions(references: Sequence[Reference], is_ordered: bool) -> list[list[Any]]:
    revisions = [[one.collection, one.id, one.revision] for one in references]
    return revisions if is_ordered else sorted(revisions)
