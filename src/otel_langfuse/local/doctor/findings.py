"""What a check comes to."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warn", "fail", "skip"]


class Finding(NamedTuple):
    """One line of the doctor's report.

    ``skip``: it could not be looked at, because something before it failed, or because it does not apply. ``detail`` and
    ``remedy`` hold no secret; they may hold what a server said, and are to be made harmless before they are shown.
    """

    check: str
    status: Status
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", detail)


def warn(check: str, detail: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(check, "warn", detail, remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """Nothing arrives like this, or not what should."""
    return Finding(check, "fail", detail, remedy)


def skip(check: str, detail: str) -> Finding:
    """Not looked at."""
    return Finding(check, "skip", detail)
