"""Record layouts: from the key conventions in use to messages.

Each layout is a function from a record (a dict) to messages; what it used is taken out, the rest stays beside the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ftplatform.errors import ProjectError
from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.records import Message, Record, parse_role, type_name
from ftplatform.rows.schema import Role
from ftplatform.rows.strict_json import parse_record

#: Layout names a user may write; `auto` recognizes one from the keys of a file's first record that has any.
LAYOUTS = ("messages", "sharegpt", "instruction", "prompt_completion", "preference", "text")

# Key conventions, in order of preference.
_MESSAGES = ("messages",)
_CONVERSATIONS = ("conversations", "conversation")
_INSTRUCTION = ("instruction",)
_INSTRUCTION_INPUT = ("input", "context")
_OUTPUT = ("output", "response", "completion", "answer")
_PROMPT = ("user", "prompt", "question", "query")
_COMPLETION = ("assistant", "completion", "response", "answer", "output")
_TEXT = ("text",)
_REFERENCE = ("reference", "expected", "ideal", "target", "answer")

#: Our names that say where the conversation is; a `fields` mapping that uses one of them describes the whole layout.
CONTENT_NAMES = frozenset(
    {
        *_MESSAGES,
        *_CONVERSATIONS,
        *_INSTRUCTION,
        *_INSTRUCTION_INPUT,
        *_OUTPUT,
        *_PROMPT,
        *_COMPLETION,
        *_TEXT,
        "system",
        "chosen",
        "rejected",
    }
)


class Converter:
    """Turns the raw records of one file into records.

    Args:
        layout: one of `LAYOUTS`, or ``auto``.
        fields: our names to the file's keys.
        text_role: who speaks in the `text` layout.

    Raises:
        ProjectError: unknown layout.
    """

    def __init__(self, layout: str, fields: Mapping[str, str], text_role: Role) -> None:
        if layout not in (*LAYOUTS, "auto"):
            raise ProjectError(f"format {layout!r} is not known.", remedy=f"Use auto or one of {', '.join(LAYOUTS)}.")
        self._layout = None if layout == "auto" else layout
        self._recognized_at: int | None = None
        self._fields = dict(fields)
        self._maps_content = not CONTENT_NAMES.isdisjoint(fields)
        self._text_role = text_role

    def is_record(self, value: Mapping[str, Any]) -> bool:
        """Whether an object has the keys of a record."""
        if self._fields:
            return any(key in value for key in self._fields.values())
        return recognize(value) is not None

    def convert(self, item: RawRecord) -> Record:
        """The record of one raw record.

        Raises:
            Malformed: with the reason.
        """
        value = item.value
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            # A document that is a list of conversations, each a list of turns.
            value = {"messages": value}
        if not isinstance(value, dict):
            raise Malformed(Reason.NOT_AN_OBJECT, f"the record is {type_name(value)}, not an object")
        record = self._rename(value)
        layout = self._layout or self._recognize(record, item.position)
        try:
            messages = _LAYOUT_READERS[layout](record, self._text_role)
        except Malformed as malformed:
            if self._recognized_at is None:
                raise
            where = f"{malformed.message} (layout {layout!r}, recognized from record {self._recognized_at})"
            raise Malformed(malformed.reason, where) from None
        return Record(messages, {key: field for key, field in record.items() if field is not None}, item.position, item)

    def _rename(self, value: dict[str, Any]) -> dict[str, Any]:
        if not self._fields:
            return dict(value)
        taken = set(self._fields.values())
        # A key that bears one of our names but is not the mapped one must not be mistaken for it, nor get lost.
        record = {f"source_{key}" if key in self._fields else key: item for key, item in value.items() if key not in taken}
        if self._maps_content:
            # The mapping says where the conversation is: keys that only look like one stay beside the row under their own name.
            for key in CONTENT_NAMES.intersection(record):
                record[f"source_{key}"] = record.pop(key)
        for ours, theirs in self._fields.items():
            if value.get(theirs) is not None:
                record[ours] = value[theirs]
            elif ours in CONTENT_NAMES and ours not in ("system", "input", "context"):
                raise Malformed(Reason.MISSING_FIELD, f"no {theirs!r} (mapped to {ours!r})")
        return record

    def _recognize(self, record: Mapping[str, Any], position: int) -> str:
        layout = recognize(record)
        if layout is None:
            keys = ", ".join(sorted(map(repr, record))[:12]) or "none"
            raise Malformed(Reason.UNKNOWN_LAYOUT, f"keys {keys[:200]} match no known layout; name them under 'fields'")
        self._layout, self._recognized_at = layout, position
        return layout


def recognize(record: Mapping[str, Any]) -> str | None:
    """The layout whose keys a record has, or None."""

    def has(*names: str) -> bool:
        return any(record.get(name) is not None for name in names)

    if has("chosen") and has("rejected"):
        return "preference"
    if has(*_MESSAGES):
        return "messages"
    if has(*_CONVERSATIONS):
        return "sharegpt"
    if has(*_INSTRUCTION):
        return "instruction"
    if has(*_PROMPT):
        return "prompt_completion"
    if has(*_TEXT):
        return "text"
    return None


# --- layouts: each takes what it uses out of the record ---------------------------------------------------------------------
def _take(record: dict[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """Name and value of the first of `names` that is there; the name alone when none is."""
    for name in names:
        if record.get(name) is not None:
            return name, record.pop(name)
    return names[0], None


def _require(record: dict[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    name, value = _take(record, names)
    if value is None:
        raise Malformed(Reason.MISSING_FIELD, f"no {' or '.join(map(repr, names))}")
    return name, value


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Malformed(Reason.WRONG_TYPE, f"{name!r} is {type_name(value)}, not a string")
    return value


def _system(record: dict[str, Any]) -> list[Message]:
    _, value = _take(record, ("system", "system_prompt"))
    text = "" if value is None else _string(value, "system")
    return [Message(Role.SYSTEM, text)] if text.strip() else []


def _messages_layout(record: dict[str, Any], _text_role: Role) -> list[Message]:
    name, turns = _require(record, _MESSAGES)
    messages = parse_messages(turns, name)
    # OpenAI's and vLLM's files may keep the system prompt beside the turns.
    return messages if any(message.role is Role.SYSTEM for message in messages) else [*_system(record), *messages]


def _sharegpt_layout(record: dict[str, Any], _text_role: Role) -> list[Message]:
    name, turns = _require(record, _CONVERSATIONS)
    messages = parse_messages(turns, name)
    return messages if any(message.role is Role.SYSTEM for message in messages) else [*_system(record), *messages]


def _instruction_layout(record: dict[str, Any], _text_role: Role) -> list[Message]:
    name, instruction = _require(record, _INSTRUCTION)
    question = _string(instruction, name)
    name, details = _take(record, _INSTRUCTION_INPUT)
    if details is not None and _string(details, name).strip():
        question = f"{question}\n\n{details}"
    messages = [*_system(record), *_history(record), Message(Role.USER, question)]
    return [*messages, *_answer(record, _OUTPUT)]


def _history(record: dict[str, Any]) -> list[Message]:
    """Earlier turns of an instruction record: a list of [question, answer] pairs."""
    _, pairs = _take(record, ("history",))
    if pairs is None:
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise Malformed(Reason.WRONG_TYPE, "'history' is not a list of [question, answer] pairs")
    return [
        message
        for question, answer in pairs
        for message in (Message(Role.USER, _string(question, "history")), Message(Role.ASSISTANT, _string(answer, "history")))
    ]


def _answer(record: dict[str, Any], names: tuple[str, ...]) -> list[Message]:
    name, value = _take(record, names)
    if value is None:
        return []
    if isinstance(value, list):
        return parse_messages(value, name)
    return [Message(Role.ASSISTANT, _string(value, name), _record_mask(record))]


def _question(record: dict[str, Any], names: tuple[str, ...]) -> list[Message]:
    name, value = _require(record, names)
    return parse_messages(value, name) if isinstance(value, list) else [Message(Role.USER, _string(value, name))]


def _prompt_completion_layout(record: dict[str, Any], _text_role: Role) -> list[Message]:
    return [*_system(record), *_question(record, _PROMPT), *_answer(record, _COMPLETION)]


def _preference_layout(record: dict[str, Any], _text_role: Role) -> list[Message]:
    """The chosen answer is the target; the rejected one stays beside the row."""
    prompt = [*_system(record), *(_question(record, _PROMPT) if any(record.get(name) is not None for name in _PROMPT) else [])]
    name, chosen = _require(record, ("chosen",))
    if record.get("rejected") is None:
        raise Malformed(Reason.MISSING_FIELD, "no 'rejected'")
    if isinstance(chosen, list):
        turns = parse_messages(chosen, name)
        # Some files repeat the prompt inside both answers.
        known = [(message.role, message.content) for message in prompt]
        repeated = [(message.role, message.content) for message in turns[: len(prompt)]] == known
        return turns if repeated else [*prompt, *turns]
    if not prompt:
        raise Malformed(Reason.MISSING_FIELD, "no 'prompt' beside 'chosen'")
    return [*prompt, Message(Role.ASSISTANT, _string(chosen, name))]


def _text_layout(record: dict[str, Any], text_role: Role) -> list[Message]:
    name, value = _require(record, _TEXT)
    return [Message(text_role, _string(value, name), _record_mask(record) if text_role is Role.ASSISTANT else None)]


_LAYOUT_READERS: dict[str, Callable[[dict[str, Any], Role], list[Message]]] = {
    "messages": _messages_layout,
    "sharegpt": _sharegpt_layout,
    "instruction": _instruction_layout,
    "prompt_completion": _prompt_completion_layout,
    "preference": _preference_layout,
    "text": _text_layout,
}


# --- turns ------------------------------------------------------------------------------------------------------------------
def parse_messages(turns: Any, name: str) -> list[Message]:
    """Messages of an OpenAI (`role`, `content`) or ShareGPT (`from`, `value`) list, or its JSON text (as CSV files hold it).

    Raises:
        Malformed: with the turn at fault.
    """
    if isinstance(turns, str):
        turns = parse_record(turns.encode("utf-8", "surrogatepass"), 64)
    if not isinstance(turns, list):
        raise Malformed(Reason.WRONG_TYPE, f"{name!r} is {type_name(turns)}, not a list of turns")
    if not turns:
        raise Malformed(Reason.NO_MESSAGES, f"{name!r} is empty")
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise Malformed(Reason.WRONG_TYPE, f"turn {number} of {name!r} is {type_name(turn)}, not an object")
        try:
            message = _message(turn)
        except Malformed as malformed:
            raise Malformed(malformed.reason, f"turn {number}: {malformed.message}") from None
        if message is not None:
            messages.append(message)
    return messages


def _message(turn: dict[str, Any]) -> Message | None:
    speaker = turn.get("role") if turn.get("role") is not None else turn.get("from")
    if speaker is None:
        raise Malformed(Reason.MISSING_FIELD, "no 'role' (or 'from')")
    role = parse_role(speaker)
    content = next((turn[key] for key in ("content", "value", "text") if turn.get(key) is not None), None)
    calls = turn.get("tool_calls") or turn.get("function_call")
    text = "" if content is None else _content(content)
    mask = _mask(turn)
    if role is not Role.ASSISTANT and mask:
        raise Malformed(Reason.TRAINABLE_ROLE, f"only assistant turns can be trainable, not {role}")
    if calls and role is Role.ASSISTANT:
        # How a call is written is the chat template's business: the text keeps it readable, the loss leaves it out.
        call_text = orjson.dumps(calls, option=orjson.OPT_SORT_KEYS).decode()
        return Message(role, f"{text}\n{call_text}".strip(), False)
    if str(speaker).strip().lower() == "function_call":
        mask = False
    if content is None:
        raise Malformed(Reason.MISSING_FIELD, "no 'content' (or 'value')")
    if role is Role.SYSTEM and not text.strip():
        return None
    return Message(role, text, mask)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        # OpenAI's content parts; only text can become a row.
        parts: list[str] = []
        for part in content:
            if not isinstance(part, dict):
                raise Malformed(Reason.WRONG_TYPE, f"a content part is {type_name(part)}, not an object")
            if part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
                raise Malformed(
                    Reason.UNSUPPORTED_CONTENT, f"content part of type {str(part.get('type'))[:40]!r}; only text is supported"
                )
            parts.append(part["text"])
        return "".join(parts)
    raise Malformed(Reason.WRONG_TYPE, f"'content' is {type_name(content)}, not a string")


def _mask(holder: Mapping[str, Any]) -> bool | None:
    """The explicit `trainable` (boolean) or `weight` (0 or 1, OpenAI's convention) of a turn or record."""
    trainable = holder.get("trainable")
    if trainable is not None:
        if isinstance(trainable, str) and trainable.lower() in ("true", "false", "1", "0"):
            return trainable.lower() in ("true", "1")
        if not isinstance(trainable, bool):
            raise Malformed(Reason.WRONG_TYPE, f"'trainable' is {type_name(trainable)}, not a boolean")
        return trainable
    weight = holder.get("weight")
    if weight is None:
        return None
    if isinstance(weight, str) and weight in ("0", "1"):
        weight = int(weight)
    if isinstance(weight, bool | str) or weight not in (0, 1):
        raise Malformed(Reason.WRONG_TYPE, f"'weight' is {str(weight)[:20]}, not 0 or 1")
    return bool(weight)


def _record_mask(record: dict[str, Any]) -> bool | None:
    """The same for a whole record; there, a weight other than 0 or 1 is a sampling weight and stays beside the row."""
    if record.get("trainable") is None and record.get("weight") not in (0, 1, "0", "1"):
        return None
    mask = _mask(record)
    record.pop("trainable", None)
    return mask


def reference_answer(fields: dict[str, Any]) -> str | None:
    """Takes the known answer of a question out of a record's fields: `reference`, `expected`, `ideal`, `target` or `answer`.

    Of a list of acceptable answers the first is the reference; the list stays beside the row as `references`.

    Raises:
        Malformed: it is not text.
    """
    name, value = _take(fields, _REFERENCE)
    if value is None:
        return None
    if isinstance(value, list) and value:
        fields["references"] = value
        value = value[0]
    return _string(value, name)
