"""The settings as a table, for the README."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from . import MIB, Config, Setting


def _default_text(setting: Setting, default: Any) -> str:
    if default is None or default == ():
        return ""
    if setting.unit == "bytes" and default % MIB == 0:
        return f"{default // MIB} MiB"
    if isinstance(default, bool):
        return str(default).lower()
    if setting.unit == "s" and default >= 24 * 3600:
        return f"{default / (24 * 3600):g} days"
    number = f"{default:,}" if isinstance(default, int) else f"{default:g}" if isinstance(default, float) else f"`{default}`"
    return f"{number} {setting.unit}".strip()


def _variables_text(setting: Setting) -> str:
    names = [f"`{v.name}`" + (" (ms)" if v.factor == 0.001 else "") for v in setting.variables]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more of CI services" if len(names) > 2 else "")


def settings_table() -> str:
    """The table of settings as Markdown, one row for each; the README contains it and a test compares."""
    lines = ["| Argument | Environment variable | Default | Expected | |", "|---|---|---|---|---|"]
    for item in fields(Config):
        setting: Setting = item.metadata["setting"]
        cells = (
            f"`{setting.argument}`",
            _variables_text(setting),
            _default_text(setting, item.default),
            setting.expected,
            setting.doc,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
