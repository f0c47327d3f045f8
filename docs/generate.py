"""Write the reference pages that the code itself knows: `python docs/generate.py`; a test compares them."""

from pathlib import Path

from armillary.base.settings import Settings, names

REFERENCE = Path(__file__).parent / "reference"


def settings() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Made by `python docs/generate.py`. A value comes from `<home>/config.yaml`, then from the environment",
        "(`web.port` is `ARMILLARY_WEB__PORT`), then from a flag; `armillary config show` tells which.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name in names():
        model, _, field = name.rpartition(".")
        owner = Settings.model_fields[model].annotation if model else Settings
        assert owner is not None
        about = owner.model_fields[field]
        lines.append(f"| `{name}` | `{about.default}` | {about.description} |")
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
