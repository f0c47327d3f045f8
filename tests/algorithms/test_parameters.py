import pytest

from armillary.algorithms import specfile
from armillary.algorithms.parameters import check_parameters, check_schema
from armillary.base.errors import UsageError


def algorithm(**parameters):
    return specfile.check(
        {
            "id": "a",
            "version": "1",
            "parameters": parameters,
            "run": {"command": ["x"]},
            "environment": {"site": True},
        }
    )


def test_defaults_are_filled_in_at_every_depth():
    inner = {"type": "object", "properties": {"y": {"type": "integer", "default": 2}}, "default": {}}
    found = check_parameters(algorithm(x={"type": "number", "default": 1.5}, inner=inner), {})
    assert found == {"x": 1.5, "inner": {"y": 2}}


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "parameters"), ({"x": "1"}, "parameters.x"), ({"x": 1, "z": 1}, "parameters"), ({"x": 7}, "parameters.x")],
)
def test_what_does_not_fit_is_named(given, field):
    with pytest.raises(UsageError) as caught:
        check_parameters(algorithm(x={"type": "integer", "maximum": 6}), given)
    assert caught.value.field == field
    assert "takes: x" in caught.value.remedy


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "objet"}, "parameters.x.type"),
        ({"type": "string", "pattern": "("}, "parameters.x.pattern"),
        ({"type": "integer", "default": "one"}, "parameters.x.default"),
        ({"$ref": "http://schemas.example/x.json"}, "parameters"),
    ],
)
def test_a_schema_that_is_none_or_lies_elsewhere_is_refused_when_registered(schema, field):
    with pytest.raises(UsageError) as caught:
        check_schema(algorithm(x=schema))
    assert caught.value.field == field
