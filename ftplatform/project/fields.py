"""Kinds of values that the project file is made of, and the model class that refuses unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ftplatform.project.credentials import shown

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_OWNER = re.compile(r"team:[A-Za-z0-9_.-]{1,58}|[^@\s:]+@[^@\s]+\.[^@\s]+")


def _dagster_name(value: str) -> str:
    # Dagster joins key parts with `__` to name the op, so `a__b` / `c` and `a` / `b__c` would collide (notes: naming rules).
    if not _NAME.fullmatch(value) or "__" in value or len(value) > 63:
        raise ValueError(
            f"{shown(value)} is not a valid name: use lower-case letters, digits, '-' and '_' (no double '__'), starting and ending"
            " with a letter or digit, at most 63 characters"
        )
    return value


def _owner(value: str) -> str:
    # Dagster refuses other owners when the code location loads, far from the line that is wrong.
    if not _OWNER.fullmatch(value):
        raise ValueError(f"{shown(value)} is not an owner: give an e-mail address or 'team:name'")
    return value


def _variable(value: str) -> str:
    # The value is not repeated: people paste the webhook itself here, and that is a secret.
    if not _VARIABLE.fullmatch(value):
        raise ValueError("is not the name of an environment variable: use capitals, digits and '_', e.g. ALERT_WEBHOOK")
    return value


def one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Name = Annotated[
    str,
    AfterValidator(_dagster_name),
    WithJsonSchema({"type": "string", "pattern": f"^(?!.*__){_NAME.pattern}$", "maxLength": 63}),
]
Uri = Annotated[str, Field(min_length=1, max_length=2048)]
Uris = Annotated[list[Uri], BeforeValidator(one_or_many, json_schema_input_type=Uri | list[Uri]), Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Owner = Annotated[str, AfterValidator(_owner)]
EnvironmentVariable = Annotated[
    str, AfterValidator(_variable), WithJsonSchema({"type": "string", "pattern": f"^{_VARIABLE.pattern}$"})
]
SliceName = Annotated[str, Field(min_length=1, max_length=100)]
Statement = Annotated[str, Field(min_length=1, max_length=2000)]
SourceAsset = Annotated[str, Field(pattern=r"^(raw|synthetic|feedback)/[a-z0-9_-]{1,63}$")]


class Model(BaseModel):
    """Base of every block: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
