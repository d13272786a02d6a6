"""What every asset factory says to Dagster in the same way: key, group, kinds, owners, tags."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from ftplatform.defs.keys import family_of, to_key

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def argument(asset: str) -> str:
    """Name of the Python argument that receives an upstream asset."""
    return asset.replace("/", "__").replace("-", "_")


def asset_options(asset: str, *, kinds: Sequence[str], owner: str | None, description: str | None, default: str) -> dict[str, Any]:
    """Keyword arguments of `dg.asset` shared by all families.

    Args:
        owner: e-mail address or ``team:name``; anything else is shown as a team.
        description: the project's own sentence, or None for `default`.
    """
    return {
        "key": to_key(asset),
        "group_name": str(family_of(asset)),
        "kinds": set(kinds),
        "owners": [_owner(owner)] if owner else None,
        "tags": {"ftplatform/family": str(family_of(asset))},
        "description": description or default,
    }


def define(options: dict[str, Any], **more: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with shared options; typed, which `dg.asset(**options)` is not."""
    return dg.asset(**options, **more)


def _owner(owner: str) -> str:
    if owner.startswith("team:") or _EMAIL.fullmatch(owner):
        return owner
    return f"team:{re.sub(r'[^a-z0-9_.-]+', '-', owner.lower())}"
