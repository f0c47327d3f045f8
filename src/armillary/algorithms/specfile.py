"""Read the document of one algorithm and check all of it, so that what is registered can be run.

Errors name the field by its path (`inputs.orbits.collection`); `read` adds the line of the file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import yaml

from armillary.algorithms.algorithm import (
    Algorithm,
    ClassPolicy,
    ErrorClass,
    Input,
    KeepPolicy,
    Output,
    Resources,
    RetryPolicy,
)
from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.ids import check_name

VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,3}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # roles, outputs and parameters are folders and JSON keys
IMAGE = re.compile(r"[A-Za-z0-9][^\s@,]*@sha256:[0-9a-f]{64}")  # no word that an engine would take for an option
MAX_TIME_SECONDS = 365 * 86400
KEYS = ["kind", "id", "version", "title", "description", "inputs", "parameters", "outputs", "run", "environment"]
KEYS += ["resources", "retry", "keep", "bundle"]
MAX_KEEP_SECONDS, MAX_KEEP_BYTES = 30 * 86400, 5 * 2**30

Document = Mapping[Any, Any]


def check(document: Document) -> Algorithm:
    """The algorithm that a document describes; `UsageError` names the first field that is wrong."""
    _known(document, KEYS, "")
    document = _with_on(document)
    run = _mapping(document, "run", required=True)
    environment = _environment(document, run)
    _run(run, environment)
    return Algorithm(
        id=check_name(_text(document, "id", required=True)),
        version=_version(document),
        title=_text(document, "title"),
        inputs={role: _input(role, part) for role, part in _parts(document, "inputs")},
        outputs={name: _output(name, part) for name, part in _parts(document, "outputs")},
        parameters=_parameters(document),
        resources=_resources(_mapping(document, "resources")),
        retry=_retry(_mapping(document, "retry")),
        environment=environment,
        keep=keep_policy(_mapping(document, "keep")),
        spec={key: value for key, value in document.items() if key != "bundle"},
    )


def read(text: str, name: str = "algorithm.yaml") -> Algorithm:
    """The algorithm in a YAML file; errors name the file and the line."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML: {error}", "Check its indentation and quotes.") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name} does not hold a mapping.", "Begin it with `kind: algorithm`.")
    try:
        return check(document)
    except UsageError as error:
        line = line_of(text, error.field or "")
        raise UsageError(f"{name}, line {line}: {error.message}", error.remedy, field=error.field) from error


def line_of(text: str, field: str) -> int:
    """The line where a field is written, or where its nearest parent is."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for step in filter(None, re.split(r"[.\[\]]+", field)):
        found = _child(node, step)
        if found is None:
            break
        mark, node = found
        line = mark.line + 1
    return line


def _child(node: Any, step: str) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        return node.value[int(step)].start_mark, node.value[int(step)]
    return None


# Parts -----------------------------------------------------------------------------------------------------


def _version(document: Document) -> str:
    version = document.get("version")
    if isinstance(version, int | float):
        # YAML reads 1.10 as the number 1.1: what was meant can no longer be told.
        raise UsageError(
            f"version is the number {version}, not a text.",
            f'Put it in quotes: version: "{version}".',
            field="version",
        )
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise UsageError(
            f"version {version!r} is not a version.",
            "Write one to four numbers, as in 1.0.0.",
            field="version",
        )
    return version


def _input(role: str, part: Document) -> Input:
    field = f"inputs.{role}"
    _known(part, ["collection", "many", "optional", "ordered", "description"], field)
    collections = part.get("collection")
    names = [collections] if isinstance(collections, str) else [] if collections is None else collections
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"{field}.collection is not a collection or a list of them.",
            "Name one.",
            field=f"{field}.collection",
        )
    many, is_ordered = _flag(part, "many", field), _flag(part, "ordered", field)
    if is_ordered and not many:
        raise UsageError(f"{field} is ordered but holds one granule.", "Add many: true.", field=f"{field}.ordered")
    return Input(role, tuple(names), many, _flag(part, "optional", field), is_ordered)


def _output(name: str, part: Document) -> Output:
    field = f"outputs.{name}"
    _known(part, ["collection", "many", "optional", "description"], field)
    collection = _text(part, "collection", field, required=True)
    return Output(name, collection, _flag(part, "many", field), _flag(part, "optional", field))


def _parameters(document: Document) -> Mapping[str, Any]:
    for name, schema in _parts(document, "parameters"):
        field = f"parameters.{name}"
        if not isinstance(schema.get("type", "string"), str | list):
            raise UsageError(
                f"{field}.type is not a JSON Schema type.",
                "Write string, integer, number, boolean, array or object.",
                field=field,
            )
        if (
            "default" in schema
            and "type" in schema
            and schema["default"] is None
            and "null" not in _as_list(schema["type"])
        ):
            raise UsageError(
                f"{field} has the default null, which its type does not allow.",
                'Write type: [..., "null"], or leave out the default.',
                field=f"{field}.default",
            )
    return dict(_mapping(document, "parameters"))


def _environment(document: Document, run: Document) -> Mapping[str, Any]:
    environment = _mapping(document, "environment")
    container = _mapping(run, "container", "run")
    _known(environment, ["lock", "image", "site", "network"], "environment")
    remedy = "Write lock: requirements.lock, image: NAME@sha256:… or site: true."
    places = {"environment": environment, "run.container": container}
    images = {f"{place}.image": part["image"] for place, part in places.items() if "image" in part}
    if len(images) > 1:
        raise UsageError("The image is named twice.", "Keep environment.image.", field="run.container.image")
    if len({"lock", "site"} & set(environment)) + len(images) != 1:
        raise UsageError("environment says not exactly one of lock, image and site.", remedy, field="environment")
    if "lock" in environment and not _is_relative_path(environment["lock"]):
        raise UsageError("environment.lock is not a file in the algorithm's folder.", remedy, field="environment.lock")
    if "site" in environment and environment["site"] is not True:
        raise UsageError("environment.site is not true.", remedy, field="environment.site")
    has_network = [_flag(part, "network", place) for place, part in places.items()]
    if not images:
        if "network" in environment:
            raise UsageError("Only containers are kept from the network.", "Leave it out.", field="environment.network")
        return dict(environment)
    ((field, image),) = images.items()
    return {"image": _image(image, field)} | ({"network": True} if any(has_network) else {})


def _image(image: Any, field: str) -> str:
    if not IMAGE.fullmatch(str(image)):
        raise UsageError(
            f"{field} names no digest, so it may change.",
            f"Write NAME@sha256:DIGEST; `podman image inspect --format '{{{{.Digest}}}}' {image}` shows it.",
            field=field,
        )
    return str(image)


def _run(run: Document, environment: Document) -> None:
    _known(run, ["command", "python", "container", "reuse"], "run")
    if len(run) - ("reuse" in run) != 1:
        raise UsageError("run says not exactly one of command, python and container.", "Keep one.", field="run")
    if "command" in run:
        _command(run["command"], "run.command")
    if "python" in run and not re.fullmatch(r"[\w.]+:\w+", str(run["python"])):
        raise UsageError(
            "run.python is not module:function.", "Write it as package.module:function.", field="run.python"
        )
    if _flag(run, "reuse", "run") and "python" not in run:
        raise UsageError(
            "run.reuse is for functions.", "Write python: module:function, or leave it out.", field="run.reuse"
        )
    if "container" in run:
        container = _mapping(run, "container", "run")
        _known(container, ["command", "image", "network"], "run.container")
        _command(container.get("command"), "run.container.command")
        if "image" not in environment:
            raise UsageError(
                "run.container has no image.",
                "Add environment: {image: NAME@sha256:DIGEST}.",
                field="environment",
            )


def _command(command: Any, field: str) -> None:
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise UsageError(
            f"{field} is not a list of words.",
            "Write it as [program, argument, job.json]; quote numbers.",
            field=field,
        )


def _resources(part: Document) -> Resources:
    _known(part, ["cpu", "memory", "disk", "gpu", "time", "soft_time", "resumable"], "resources")
    default = Resources()
    soft = _seconds(part, "soft_time", "resources", 1, 1) if "soft_time" in part else None
    hard = _seconds(part, "time", "resources", default.time_seconds, 1)
    if soft is not None and soft >= hard:
        raise UsageError(
            f"resources.soft_time ({soft:g} s) leaves no time before resources.time ({hard:g} s).",
            "Ask it to stop earlier than it is killed.",
            field="resources.soft_time",
        )
    return Resources(
        cpu=_number(part, "cpu", "resources", default.cpu, 0.01, 1024),
        memory_bytes=_size(part, "memory", default.memory_bytes),
        disk_bytes=_size(part, "disk", default.disk_bytes),
        time_seconds=hard,
        soft_time_seconds=soft,
        gpu=_whole(part, "gpu", "resources", default.gpu, 0, 64),
        resumable=_flag(part, "resumable", "resources"),
    )


def _retry(part: Document) -> RetryPolicy:
    _known(part, ["attempts", "on", "grow_memory_on_oom", "delay", "longest_delay"], "retry")
    default = RetryPolicy()
    policies = _classes(part["on"]) if "on" in part else dict(default.on)
    if (growth := _number(part, "grow_memory_on_oom", "retry", 1, 1, 16)) > 1:
        policies[ErrorClass.OUT_OF_MEMORY] = replace(
            policies.get(ErrorClass.OUT_OF_MEMORY, ClassPolicy()), grow_memory=growth
        )
    return RetryPolicy(
        attempts=_attempts(part, "retry", default.attempts),
        on=policies,
        delay_seconds=_seconds(part, "delay", "retry", default.delay_seconds, 0),
        longest_delay_seconds=_seconds(part, "longest_delay", "retry", default.longest_delay_seconds, 0),
    )


def _classes(named: Any) -> dict[ErrorClass, ClassPolicy]:
    """The error classes that are tried again: a list, or a mapping with a policy for each."""
    allowed = [error_class for error_class in ErrorClass if error_class is not ErrorClass.CANCELLED]
    if not isinstance(named, list | Mapping):
        remedy = f"Choose from: {', '.join(allowed)}; or give each a policy: {{out of memory: {{grow_memory: 1.5}}}}."
        raise UsageError("retry.on is neither a list nor a mapping.", remedy, field="retry.on")
    for name in named:
        if name not in allowed:
            raise UsageError(
                f"retry.on: {name!r} is no error class.",
                f"Choose from: {', '.join(allowed)}.",
                field="retry.on",
            )
    if isinstance(named, list):
        return {ErrorClass(name): ClassPolicy() for name in named}
    return {ErrorClass(name): _class_policy(ErrorClass(name), part) for name, part in named.items()}


def _class_policy(error_class: ErrorClass, part: Any) -> ClassPolicy:
    field = f"retry.on.{error_class}"
    if part is None or part == {}:
        return ClassPolicy()
    if not isinstance(part, Mapping):
        raise UsageError(f"{field} is not a mapping.", "Write {attempts: 2, delay: 1min}, say.", field=field)
    keys = ["attempts", "delay", "grow_memory", "grow_disk", "grow_time", "pool"]
    if error_class in (ErrorClass.PREEMPTED, ErrorClass.LOST):
        keys = ["pool"]  # nobody's failure: neither counted nor made to wait
    _known(part, keys, field)
    return ClassPolicy(
        attempts=_attempts(part, field, 1) if "attempts" in part else None,
        delay_seconds=_seconds(part, "delay", field, 0, 0) if "delay" in part else None,
        grow_memory=_number(part, "grow_memory", field, 1, 1, 16),
        grow_disk=_number(part, "grow_disk", field, 1, 1, 16),
        grow_time=_number(part, "grow_time", field, 1, 1, 16),
        pool=_text(part, "pool", field) or None,
    )


def _attempts(part: Document, field: str, default: int) -> int:
    attempts = _number(part, "attempts", field, default, 1, 100)
    if attempts != int(attempts):
        field = f"{field}.attempts"
        raise UsageError(f"{field} {attempts} is not a whole number.", "Write 3, say.", field=field)
    return int(attempts)


def keep_policy(part: Document) -> KeepPolicy:
    """What `keep:` says; `UsageError` names what is wrong with it."""
    part = _named_on(part)
    _known(part, ["on", "for", "most"], "keep")
    default = KeepPolicy()
    on = part.get("on", default.on)
    if on not in ("failure", "always", "never"):
        raise UsageError(f"keep.on is {on!r}.", "Write failure, always or never.", field="keep.on")
    seconds = _seconds(part, "for", "keep", default.for_seconds, 60)
    if seconds > MAX_KEEP_SECONDS:
        raise UsageError(f"keep.for is {part['for']!r}.", "Write at most 30 days, as in 30d.", field="keep.for")
    most = units.size(part["most"], "keep.most") if "most" in part else default.most_bytes
    if not 0 < most <= MAX_KEEP_BYTES:
        raise UsageError(f"keep.most is {part['most']!r}.", "Write at most 5GiB.", field="keep.most")
    return KeepPolicy(on, seconds, most)


def _with_on(document: Document) -> Document:
    retry = document.get("retry")
    return {**document, "retry": _named_on(retry)} if isinstance(retry, Mapping) else document


def _named_on(part: Document) -> Document:
    """YAML 1.1 reads a bare `on` as true, and JSON writes that key as "true": give it its name back."""
    return {"on" if key in (True, "true") else key: value for key, value in part.items()}


# Values ----------------------------------------------------------------------------------------------------


def _known(part: Document, keys: Sequence[str], field: str) -> None:
    for key in part:
        if key in keys:
            continue
        path = f"{field}.{key}".lstrip(".")
        close = get_close_matches(str(key), keys, 1)
        raise UsageError(
            f"{path} is not known here.",
            f"Did you mean {close[0]}?" if close else f"Choose from: {', '.join(keys)}.",
            field=path,
        )


def _mapping(part: Document, key: str, field: str = "", *, required: bool = False) -> Document:
    value = part.get(key)
    path = f"{field}.{key}".lstrip(".")
    if value is None and not required:
        return {}
    if value is None:
        raise UsageError(f"{path} is missing.", f"Add {key}: to the algorithm.", field=path)
    if not isinstance(value, Mapping):
        raise UsageError(f"{path} is not a mapping.", f"Write {key}: {{…}}.", field=path)
    return value


def _parts(document: Document, key: str) -> list[tuple[str, Document]]:
    """The named parts of a section."""
    section = _mapping(document, key)
    for name in section:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(
                f"{key}: {name!r} is not a name.",
                "Use letters, digits, _ and -, and begin with a letter.",
                field=f"{key}.{name}",
            )
    return [(name, _mapping(section, name, key, required=True)) for name in section]


def _text(part: Document, key: str, field: str = "", *, required: bool = False) -> str:
    value = part.get(key)
    path = f"{field}.{key}".lstrip(".")
    if value is None and required:
        raise UsageError(f"{path} is missing.", f"Add {key}: to the document.", field=path)
    if not isinstance(value, str | None):
        raise UsageError(f"{path} is not a text.", "Put it in quotes.", field=path)
    return value or ""


def _flag(part: Document, key: str, field: str) -> bool:
    value = part.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{field}.{key} is {value!r}.", "Write true or false.", field=f"{field}.{key}")
    return value


def _number(part: Document, key: str, field: str, default: float, low: float, high: float) -> float:
    value = part.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(
            f"{field}.{key} is {value!r}.", f"Write a number from {low} to {high}.", field=f"{field}.{key}"
        )
    return value


def _whole(part: Document, key: str, field: str, default: int, low: int, high: int) -> int:
    value = _number(part, key, field, default, low, high)
    if value != int(value):
        path = f"{field}.{key}"
        raise UsageError(f"{path} {value!r} is not a whole number.", f"Write {max(low, 1)}, say.", field=path)
    return int(value)


def _size(part: Document, key: str, default: int) -> int:
    path = f"resources.{key}"
    value = units.size(part[key], path) if key in part else default
    if not 0 < value < 2**60:
        raise UsageError(f"{path} is {part[key]!r}.", "Write it as 512MiB or 6GiB.", field=path)
    return value


def _seconds(part: Document, key: str, field: str, default: float, low: float) -> float:
    path = f"{field}.{key}"
    value = units.duration(str(part[key]), path).total_seconds() if key in part else default
    if not low <= value <= MAX_TIME_SECONDS:
        raise UsageError(f"{path} is {part[key]!r}.", f"Write {low} s to a year, as 90s or 1h30m.", field=path)
    return value


def _is_relative_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not value.startswith("/") and ".." not in value.split("/")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
