"""A lineage as W3C PROV-JSON (https://www.w3.org/submissions/prov-json/): granules are entities, jobs activities."""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from armillary.granules.granule import Reference
from armillary.provenance.activity import Activity, Lineage

if TYPE_CHECKING:
    from prov.model import ProvDocument

NAMESPACE = "urn:armillary:"


def prov_json(lineage: Lineage) -> dict[str, Any]:
    """The graph of a lineage; names are percent-encoded, so that every one is a valid qualified name."""
    from prov.model import ProvDocument  # not at a server's start, which few ask for provenance

    document = ProvDocument()
    document.add_namespace("armillary", NAMESPACE)
    for reference in _references(lineage):
        document.entity(
            _entity(reference),
            {
                "prov:type": "armillary:granule",
                "armillary:collection": reference.collection,
                "armillary:id": reference.id,
                "armillary:revision": reference.revision,
            },
        )
    for activity in lineage.activities:
        _add(document, activity)
    for reference, retired_at in lineage.retired.items():
        document.wasInvalidatedBy(_entity(reference), time=retired_at)
    described: dict[str, Any] = json.loads(str(document.serialize(format="json")))
    return described


def _add(document: "ProvDocument", activity: Activity) -> None:
    job, plan, agent = (
        f"armillary:job.{activity.job_id}",
        f"armillary:algorithm.{_segment(activity.algorithm)}.{activity.algorithm_version}",
        f"armillary:account.{_segment(activity.agent)}",
    )
    document.activity(
        job,
        activity.started_at,
        activity.ended_at,
        {
            "prov:type": "armillary:job",
            "armillary:attempt": activity.attempt,
            "armillary:host": activity.host,
            "armillary:parameters": json.dumps(activity.parameters, sort_keys=True, ensure_ascii=False),
        },
    )
    document.entity(plan, {"prov:type": "prov:Plan", "armillary:digest": activity.algorithm_digest})
    document.agent(agent)
    document.wasAssociatedWith(job, agent, plan)
    for role, reference in activity.used:
        document.used(job, _entity(reference), other_attributes={"prov:role": role})
    for output, reference in activity.generated:
        document.wasGeneratedBy(_entity(reference), job, other_attributes={"prov:role": output})
        document.wasAttributedTo(_entity(reference), agent)
        for _role, source in activity.used:
            document.wasDerivedFrom(_entity(reference), _entity(source), job)


def _references(lineage: Lineage) -> list[Reference]:
    """Every granule once, in a stable order."""
    found = {lineage.root: None} | {node.reference: None for node in lineage.nodes}
    for activity in lineage.activities:
        found |= {reference: None for _, reference in (*activity.used, *activity.generated)}
    return list(found)


def _entity(reference: Reference) -> str:
    return f"armillary:granule.{_segment(reference.collection)}.{_segment(reference.id)}.r{reference.revision}"


def _segment(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")
