"""Prompt and answer of a traced request, in the shapes that tracing tools store inputs and outputs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftplatform.rows.quarantine import Malformed, Reason

_USER, _ASSISTANT = frozenset({"user", "human"}), frozenset({"assistant", "ai", "model"})
#: Keys that hold the text itself, in the order they are looked for.
_PROMPT_KEYS = ("input", "question", "prompt", "query", "text", "content", "inputs")
_ANSWER_KEYS = ("output", "answer", "response", "completion", "text", "content", "result", "outputs")


def prompt_of(value: Any) -> str:
    """The last user turn of an input.

    Raises:
        Malformed: if the input is in no known shape, or says nothing.
    """
    return _said(value, _USER, _PROMPT_KEYS, "input")


def answer_of(value: Any) -> str | None:
    """The last assistant turn of an output; None if there is no output.

    Raises:
        Malformed: as `prompt_of`.
    """
    return None if value is None or value == {} or value == "" else _said(value, _ASSISTANT, _ANSWER_KEYS, "output")


def _said(value: Any, roles: frozenset[str], keys: Sequence[str], name: str) -> str:
    text = _text(value, roles, keys)
    if text is None:
        raise Malformed(Reason.UNSUPPORTED_CONTENT, f"no text is found in the {name}")
    if not text.strip():
        raise Malformed(Reason.EMPTY_CONTENT, f"the {name} is blank")
    return text


def _text(value: Any, roles: frozenset[str], keys: Sequence[str], depth: int = 0) -> str | None:
    if isinstance(value, str):
        return value
    if depth > 6:
        return None
    if isinstance(value, list):
        return _from_list(value, roles, keys, depth)
    if not isinstance(value, Mapping):
        return None
    if (role := _role(value)) is not None:
        return _content(value) if role in roles else None
    for nested in ("messages", "choices", "message", "generations"):
        if nested in value and (found := _text(value[nested], roles, keys, depth + 1)) is not None:
            return found
    for key in keys:
        if key in value:
            return _text(value[key], roles, keys, depth + 1)
    # A chain with one input of its own name.
    only = [each for each in value.values() if isinstance(each, str)]
    return only[0] if len(only) == 1 else None


def _from_list(items: list[Any], roles: frozenset[str], keys: Sequence[str], depth: int) -> str | None:
    """Of messages the last one by `roles`; of anything else the only element (choices, batches)."""
    if any(isinstance(item, Mapping) and _role(item) is not None for item in items):
        spoken = [item for item in items if isinstance(item, Mapping) and _role(item) in roles]
        return _content(spoken[-1]) if spoken else None
    return _text(items[0], roles, keys, depth + 1) if len(items) == 1 else None


def _role(message: Mapping[str, Any]) -> str | None:
    """Who speaks, also in LangChain's serialized messages (``type: human`` or a class name in ``id``)."""
    if isinstance(role := message.get("role"), str):
        return role.lower()
    kind, kwargs = message.get("type"), message.get("kwargs")
    if kind == "constructor" and isinstance(kwargs, Mapping):
        name = message.get("id")
        last = str(name[-1]) if isinstance(name, list) and name else ""
        return {"HumanMessage": "human", "AIMessage": "ai", "AIMessageChunk": "ai", "SystemMessage": "system"}.get(last)
    return kind if kind in {"human", "ai", "system", "tool"} else None


def _content(message: Mapping[str, Any]) -> str | None:
    kwargs = message.get("kwargs")
    content = kwargs.get("content") if isinstance(kwargs, Mapping) and "content" not in message else message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        # A picture beside the text would be lost, and the correction may be about it.
        return "\n".join(texts) if texts and len(texts) == len(parts) else None
    return None
