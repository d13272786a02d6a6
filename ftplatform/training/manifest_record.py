"""Manifests from their JSON form: one way for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ftplatform.errors import TrainingError
from ftplatform.training.loop import Optimization
from ftplatform.training.settings import BaseModelIdentity, FileHashes, LoraSettings

_Manifest = TypeVar("_Manifest")


def restore(
    kind: type[_Manifest],
    record: Mapping[str, Any],
    *,
    noun: str,
    schemas: Collection[str],
    parts: Mapping[str, Callable[[Any], Any]] | None = None,
) -> _Manifest:
    """The manifest a JSON object stands for.

    Args:
        kind: dataclass of the manifest, with `base`, `optimization` and `lora`.
        noun: what the manifest is called, for messages.
        schemas: values of `schema` that are read, today's first.
        parts: how further keys are read, where they are there and not null.

    Raises:
        TrainingError: another schema, or unknown or missing keys (named).
    """
    known = dict(record)
    if known.pop("schema", None) not in schemas:
        raise TrainingError(
            f"this is no {noun} of schema {next(iter(schemas))}", remedy="Write it with this version of ftplatform."
        )
    readers = {"base": _base, "optimization": lambda value: Optimization(**value), "lora": lambda value: LoraSettings(**value)}
    try:
        for key, read in (readers | dict(parts or {})).items():
            if key in readers or known.get(key) is not None:
                known[key] = read(known[key])
        return kind(**known)
    except (KeyError, TypeError, ValueError) as error:
        expected = ", ".join(f.name for f in fields(kind))  # pyright: ignore[reportArgumentType]
        raise TrainingError(f"the {noun} is not readable: {error}", remedy=f"Its keys are {expected}.") from error


def file_hashes(value: Any) -> FileHashes:
    """Pairs of path and SHA-256."""
    return tuple((path, sha256) for path, sha256 in value)


def _base(value: Mapping[str, Any]) -> BaseModelIdentity:
    return BaseModelIdentity(**{**value, "files": file_hashes(value["files"])})
