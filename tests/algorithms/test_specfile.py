import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms import specfile
from armillary.algorithms.algorithm import EXIT_CODES, ClassPolicy, ErrorClass, class_of_exit
from armillary.base.errors import UsageError

TEXT = """\
kind: algorithm
id: insar
version: 1.0.0
inputs:
  reference: {collection: slc}
  elevation: {collection: [elevation, elevation-fine], many: true}
  orbits:
    collection: orbit
    many: true
    optional: true
parameters:
  looks: {type: array, items: {type: integer}, default: [19, 7]}
outputs:
  interferogram: {collection: interferogram}
run: {command: [armillary-insar, process, job.json]}
environment: {lock: requirements.lock}
resources: {cpu: 2, memory: 6GiB, disk: 20GiB, time: 1h}
retry: {attempts: 3, on: [preempted, infrastructure], grow_memory_on_oom: 1.5}
"""


def test_a_whole_document_becomes_an_algorithm():
    algorithm = specfile.read(TEXT)
    assert (algorithm.id, algorithm.version) == ("insar", "1.0.0")
    assert algorithm.inputs["elevation"].collections == ("elevation", "elevation-fine")
    assert algorithm.inputs["orbits"].many and algorithm.inputs["orbits"].optional
    assert algorithm.resources.memory_bytes == 6 * 2**30
    assert algorithm.resources.time_seconds == 3600
    assert set(algorithm.retry.on) == {ErrorClass.PREEMPTED, ErrorClass.INFRASTRUCTURE, ErrorClass.OUT_OF_MEMORY}


def test_each_class_may_have_a_policy_and_time_a_softer_limit():
    algorithm = specfile.read(
        TEXT.replace("on: [preempted, infrastructure]", "on: {out of disk: {grow_disk: 2, pool: large}, infrastructure: }")
        .replace("time: 1h", "time: 1h, soft_time: 50min")
    )  # fmt: skip
    assert algorithm.retry.on == {
        ErrorClass.OUT_OF_DISK: ClassPolicy(grow_disk=2, pool="large"),
        ErrorClass.INFRASTRUCTURE: ClassPolicy(),
        ErrorClass.OUT_OF_MEMORY: ClassPolicy(grow_memory=1.5),
    }
    assert (algorithm.resources.soft_time_seconds, algorithm.resources.time_seconds) == (3000, 3600)


def test_it_is_the_same_after_a_journey_as_json():
    # A bare `on:` is true in YAML 1.1 and "true" in JSON.
    document = yaml.safe_load(TEXT)
    assert True in document["retry"]
    assert specfile.check(json.loads(json.dumps(document))) == specfile.read(TEXT)


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "words"),
    [
        ("version: 1.0.0", "version: 1.10", "version", 3, "quotes"),
        ("version: 1.0.0", "version: 1", "version", 3, "quotes"),
        ("version: 1.0.0", "version: one", "version", 3, "1.0.0"),
        ("id: insar", "id: in/sar", "id", 2, "slash"),
        ("id: insar", "ident: insar", "ident", 2, "id"),
        ("    collection: orbit\n", "    colection: orbit\n", "inputs.orbits.colection", 8, "collection"),
        ("    many: true\n", "    many: maybe\n", "inputs.orbits.many", 9, "true or false"),
        ("many: true}", "ordered: true}", "inputs.elevation.ordered", 6, "many"),
        (
            "interferogram: {collection: interferogram}",
            "interferogram: {}",
            "outputs.interferogram.collection",
            14,
            "missing",
        ),
        ("  interferogram: {", "  ../out: {", "outputs.../out", 13, "letters"),
        ("command: [armillary-insar, process, job.json]", "command: armillary-insar", "run.command", 15, "list"),
        ("command: [armillary-insar, process, job.json]", "shell: x", "run.shell", 15, "command"),
        ("{lock: requirements.lock}", "{lock: /etc/passwd}", "environment.lock", 16, "folder"),
        ("{lock: requirements.lock}", "{image: 'python:3.11'}", "environment.image", 16, "DIGEST"),
        (
            "{lock: requirements.lock}",
            "{image: '--privileged@sha256:" + 64 * "0" + "'}",
            "environment.image",
            16,
            "DIGEST",
        ),
        ("{lock: requirements.lock}", "{site: true, network: true}", "environment.network", 16, "Leave it out"),
        (
            "command: [armillary-insar, process, job.json]",
            "container: {image: a, command: [b]}",
            "environment",
            16,
            "exactly one",
        ),
        ("{lock: requirements.lock}", "{site: true, lock: a}", "environment", 16, "exactly one"),
        ("memory: 6GiB", "memory: much", "resources.memory", 17, "6GiB"),
        ("time: 1h", "time: P1M", "resources.time", 17, "90s"),
        ("cpu: 2", "cpu: -1", "resources.cpu", 17, "0.01"),
        ("attempts: 3", "attempts: 2.5", "retry.attempts", 18, "whole"),
        ("[preempted,", "[vanished,", "retry.on", 18, "science error"),
        ("[preempted, infrastructure]", "never", "retry.on", 18, "list"),
        ("[preempted, infrastructure]", "{timed out: 3}", "retry.on.timed out", 18, "attempts"),
        ("[preempted, infrastructure]", "{lost: {attempts: 3}}", "retry.on.lost.attempts", 18, "pool"),
        ("time: 1h", "time: 1h, soft_time: 1h", "resources.soft_time", 17, "earlier"),
    ],
)
def test_what_is_wrong_is_named_by_field_and_line(old, new, field, line, words):
    assert old in TEXT
    with pytest.raises(UsageError) as caught:
        specfile.read(TEXT.replace(old, new), "algorithm.yaml")
    assert caught.value.field == field
    assert caught.value.message.startswith(f"algorithm.yaml, line {line}:")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "x"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(UsageError):
        specfile.read(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*specfile.KEYS, "lock", "command", "on", "attempts", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_read_or_refused(value):
    document = value if isinstance(value, dict) else {"id": value}
    base = {"id": "a", "version": "1", "run": {"command": ["x"]}, "environment": {"site": True}}
    for candidate in (document, base | document):
        with contextlib.suppress(UsageError):
            specfile.check(candidate)


def test_exit_codes_name_their_class():
    assert class_of_exit(0) is None
    assert class_of_exit(12) is ErrorClass.OUT_OF_MEMORY
    assert class_of_exit(1) is class_of_exit(-9) is ErrorClass.SCIENCE_ERROR
    assert set(EXIT_CODES) == set(range(10, 17))


IMAGE = f"registry.example/group/name@sha256:{64 * '0'}"


@pytest.mark.parametrize(
    ("run", "environment", "expected"),
    [
        ({"container": {"image": IMAGE, "command": ["x"]}}, None, {"image": IMAGE}),
        ({"container": {"command": ["x"], "network": True}}, {"image": IMAGE}, {"image": IMAGE, "network": True}),
        ({"command": ["x"]}, {"image": IMAGE, "network": True}, {"image": IMAGE, "network": True}),
        ({"python": "a.b:c"}, {"image": IMAGE, "network": False}, {"image": IMAGE}),
    ],
)
def test_an_image_may_be_named_with_the_container_or_the_environment(run, environment, expected):
    document = {"kind": "algorithm", "id": "a", "version": "1.0.0", "run": run}
    document |= {"environment": environment} if environment else {}
    assert specfile.check(document).environment == expected


def test_an_image_without_a_digest_is_refused_with_the_remedy():
    document = {"id": "a", "version": "1.0.0", "run": {"container": {"image": "python:3.11", "command": ["x"]}}}
    with pytest.raises(UsageError) as caught:
        specfile.check(document)
    assert caught.value.field == "run.container.image"
    assert "podman image inspect" in caught.value.remedy and "python:3.11" in caught.value.remedy
