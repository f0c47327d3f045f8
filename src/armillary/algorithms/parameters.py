"""Parameters: check them against the algorithm's JSON Schema, offline, and fill in the defaults."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from armillary.algorithms.algorithm import Algorithm
from armillary.base.errors import UsageError


def check_schema(algorithm: Algorithm) -> None:
    """Refuse a schema that is not one, reaches over the network, or contradicts its own defaults."""
    try:
        validator = _validator_of(algorithm)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        path = ".".join(["parameters", *(str(step) for step in getattr(error, "instance_path", [])[1:])])
        raise UsageError(f"{path} is not a JSON Schema: {_sentence(error)}", "Correct it.", field=path) from error
    defaults = {name: schema["default"] for name, schema in algorithm.parameters.items() if "default" in schema}
    for wrong in validator.iter_errors(defaults):
        if wrong.instance_path:
            field = f"parameters.{wrong.instance_path[0]}.default"
            raise UsageError(f"{field}: {wrong.message}.", "Make the default fit its own schema.", field=field)


def check_parameters(algorithm: Algorithm, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with defaults; `UsageError` names the first that does not fit."""
    parameters = fill_defaults(algorithm.parameters, given)
    for error in _validator_of(algorithm).iter_errors(parameters):
        path = ".".join(["parameters", *(str(step) for step in error.instance_path)])
        known = ", ".join(algorithm.parameters) or "none"
        raise UsageError(f"{path}: {error.message}.", f"{algorithm.id} {algorithm.version} takes: {known}.", field=path)
    return parameters


def fill_defaults(properties: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and the defaults of what was not; objects inside are filled alike."""
    filled = dict(given)
    for name, schema in properties.items():
        if name not in filled and "default" in schema:
            filled[name] = schema["default"]
        if isinstance(filled.get(name), Mapping) and isinstance(schema.get("properties"), Mapping):
            filled[name] = fill_defaults(schema["properties"], filled[name])
    return filled


def schema_of(algorithm: Algorithm) -> dict[str, Any]:
    """The JSON Schema of all parameters: what has no default must be given, and nothing else may be."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": dict(algorithm.parameters),
        "required": sorted(name for name, schema in algorithm.parameters.items() if "default" not in schema),
        "additionalProperties": False,
    }


def _validator_of(algorithm: Algorithm) -> Any:
    return _validator(json.dumps(schema_of(algorithm), sort_keys=True))


@lru_cache(maxsize=1000)
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(schema, offline=True)


def _sentence(error: BaseException) -> str:
    return str(getattr(error, "message", error)).splitlines()[0].rstrip(".") + "."
