"""What every check is made of."""

from __future__ import annotations


class CheckFailed(AssertionError):
    """An answer lacks a property; the message says which, and where to look."""


def demand(holds, message: str) -> None:
    """Raise :class:`CheckFailed` with the message unless the property holds."""
    if not bool(holds):
        raise CheckFailed(message)


def passed(what: str) -> None:
    """Tell the student that all properties hold."""
    print(f"✓ {what}: all checks passed")
