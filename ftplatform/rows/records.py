"""Records: a conversation with what is known about it, before it becomes a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.schema import Role


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: who speaks.
        content: what is said; never blank in a row.
        trainable: whether its loss is taken; None means the default (assistant yes, others never).
    """

    role: Role
    content: str
    trainable: bool | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation.

    Attributes:
        messages: its turns in order.
        fields: what else is known, by our names: `author`, `group`, `surface`, `created_at`, `slices`, `parents`, `reference`
            (the known answer of an eval question); everything else goes to the row's `meta`.
        position: 1-based place in the file, for messages.
        raw: the record as it was read, for the excerpt when it turns out malformed.
    """

    messages: list[Message]
    fields: Mapping[str, Any] = field(default_factory=dict)
    position: int = 0
    raw: Any = field(default=None, repr=False)


# Names of speakers in the formats in use, lower case.
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "customer": Role.USER,
    "prompter": Role.USER,
    "assistant": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
    "chatgpt": Role.ASSISTANT,
    "bot": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "agent": Role.ASSISTANT,
    "function_call": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "observation": Role.TOOL,
    "ipython": Role.TOOL,
    "tool_response": Role.TOOL,
}


def parse_role(name: Any) -> Role:
    """Our role for a speaker's name.

    Raises:
        Malformed: not a string, or nobody we know.
    """
    if not isinstance(name, str):
        raise Malformed(Reason.WRONG_TYPE, f"role is {type_name(name)}, not a string")
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise Malformed(Reason.UNKNOWN_ROLE, f"role {name[:40]!r} is not one of {', '.join(sorted(_ROLES))}")
    return role


def type_name(value: Any) -> str:
    """What JSON calls the type of a value, for messages."""
    if value is None:
        return "null"
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        (list, "a list"),
        (dict, "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)
