"""The one settings tree: defaults, then the home's `config.yaml`, then `ARMILLARY_…` in the environment, then flags.

Read once, in `serve.py`, and handed down in slices. `armillary config show` tells where each value came from.
"""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.yamlfile import load


def _written(read_text: Callable[[str], Any]) -> BeforeValidator:
    """Read what was written as text; a mistake is named together with its setting."""

    def check(value: Any) -> Any:
        try:
            return read_text(value) if isinstance(value, str) else value
        except UsageError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(check)


Duration = Annotated[timedelta, _written(units.duration)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebSettings(_Part):
    """The web server."""

    host: str = Field(default="127.0.0.1", description="Address to listen at; loopback unless you say otherwise.")
    port: int = Field(default=7117, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    public_url: str | None = Field(
        default=None, description="The URL that links are made with; the address itself if unset."
    )


class DatabaseSettings(_Part):
    """Where the truth is."""

    dsn: str | None = Field(default=None, description="PostgreSQL 15 or newer; the embedded server if unset.")
    connections: int = Field(default=8, ge=2, description="Connections at most, per server process.")


class StoreSettings(_Part):
    """Where the bytes are."""

    url: str | None = Field(
        default=None, description="s3://bucket/prefix, gs://…, az://… or a folder; `<home>/store` if unset."
    )
    options: dict[str, str] = Field(
        default={}, description="Options of the object store (endpoint, region …), never secrets."
    )
    upload_expires: Duration = Field(
        default=timedelta(hours=24), description="An upload that was not committed by then is abandoned."
    )
    link_expires: Duration = Field(default=timedelta(hours=24), description="How long a signed link works.")
    retired_expires: Duration = Field(
        default=timedelta(days=2),
        description="How long the bytes of a retired revision are kept; never shorter than a signed link works.",
    )


class PoolSettings(_Part):
    """Workers and leases."""

    heartbeat: Duration = Field(default=timedelta(seconds=2), description="How often a worker says that it lives.")
    time_to_live: Duration = Field(
        default=timedelta(seconds=15), description="A worker silent for this long loses its leases."
    )
    start_local: bool = Field(default=True, description="Make the pool `default` of local processes at first start.")
    idle_workers: int = Field(default=1, ge=0, description="Workers that the local pool keeps warm.")


class TraceSettings(_Part):
    """Where OpenTelemetry traces go."""

    endpoint: str | None = Field(
        default=None,
        description="Where traces are sent by OTLP over HTTP (http://collector:4318/v1/traces); nowhere if unset.",
    )
    fraction: float = Field(
        default=1.0, ge=0, le=1, description="The part of all traces that is sent, each as a whole."
    )
    token_file: Path | None = Field(default=None, description="A file whose content the receiver gets as bearer token.")


class LogSettings(_Part):
    """What the server writes about itself."""

    level: str = Field(default="info", description="debug, info, warning or error.")
    json_lines: bool = Field(default=False, description="One JSON object per line.")


class Settings(_Part):
    """Everything that can be set."""

    home: Path = Field(
        default=Path("~/.armillary"), description="Where this instance keeps everything that is not elsewhere."
    )
    web: WebSettings = WebSettings()
    database: DatabaseSettings = DatabaseSettings()
    store: StoreSettings = StoreSettings()
    pools: PoolSettings = PoolSettings()
    traces: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()


def read(
    home: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """The settings and, per dotted name, where its value came from."""
    environment = os.environ if environment is None else environment
    home = (home or Path(environment.get("ARMILLARY_HOME", "~/.armillary"))).expanduser().absolute()
    sources: dict[str, str] = {}
    tree: dict[str, Any] = {"home": home}
    for source, values in (
        (str(home / "config.yaml"), _from_file(home / "config.yaml")),
        ("environment", _from_environment(environment)),
        ("flag", dict(flags or {})),
    ):
        for name, value in values.items():
            _put(tree, name, value)
            sources[name] = (
                f"environment ARMILLARY_{name.upper().replace('.', '__')}" if source == "environment" else source
            )
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _as_usage_error(error, sources) from error
    return settings, {name: sources.get(name, "default") for name in names()}


def names() -> list[str]:
    """The dotted names of all settings."""
    return ["home"] + [
        f"{part}.{name}"
        for part, field in Settings.model_fields.items()
        if part != "home" and field.annotation is not None
        for name in field.annotation.model_fields
    ]


def value(settings: Settings, name: str) -> Any:
    """The value of one dotted name."""
    part: Any = settings
    for step in name.split("."):
        part = getattr(part, step)
    return part


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = load(path.read_text(), str(path)) or {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a mapping.", "Write `web: {port: 7117}` and the like.")
    return {
        f"{part}.{name}" if isinstance(values, dict) else part: inner
        for part, values in content.items()
        for name, inner in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {f"ARMILLARY_{name.upper().replace('.', '__')}": name for name in names() if name != "home"}
    return {known[key]: text for key, text in environment.items() if key in known}


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *parts, last = name.split(".")
    for part in parts:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _as_usage_error(error: ValidationError, sources: Mapping[str, str]) -> UsageError:
    first = error.errors()[0]
    name = ".".join(str(step) for step in first["loc"])
    origin = sources.get(name, "the settings")
    return UsageError(
        f"Setting {name} from {origin}: {first['msg']}.",
        "`armillary config show` lists every setting.",
        field=name,
    )
