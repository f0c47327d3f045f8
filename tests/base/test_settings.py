"""Settings: defaults, file, environment, flags, in this order; each value knows where it came from."""

import pytest

from armillary.base.errors import UsageError
from armillary.base.settings import read, value


def test_each_source_beats_the_one_before(tmp_path):
    (tmp_path / "config.yaml").write_text("web: {port: 1, host: 127.0.0.2}\npools: {heartbeat: 3s}\n")
    environment = {"ARMILLARY_WEB__PORT": "2", "ARMILLARY_LOG__LEVEL": "debug"}
    settings, sources = read(tmp_path, {"web.port": 3}, environment)
    assert (settings.web.port, settings.web.host, settings.log.level) == (3, "127.0.0.2", "debug")
    assert value(settings, "pools.heartbeat").total_seconds() == 3
    assert sources["web.port"] == "flag"
    assert sources["web.host"] == str(tmp_path / "config.yaml")
    assert sources["log.level"] == "environment ARMILLARY_LOG__LEVEL"
    assert sources["database.dsn"] == "default"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web: {port: many}", "web.port"),
        ("web: {prot: 1}", "web.prot"),
        ("pools: {heartbeat: soon}", "pools.heartbeat"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(tmp_path, text, name):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read(tmp_path, {}, {})
    assert name in str(caught.value)
