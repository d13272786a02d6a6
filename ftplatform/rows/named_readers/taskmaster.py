"""Reader `taskmaster`: Taskmaster dialogues (Byrne et al.; TM-4: arXiv:2403.10704), JSON arrays of conversations.

Each conversation was written by one crowd worker playing both sides ("self-dialog"), so there is no author to tell apart. API
calls are annotations of a user utterance; each becomes a `tool` turn (call, request and response) right after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ftplatform.rows.file_kinds import OpenFile
from ftplatform.rows.named_readers import read_each
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason
from ftplatform.rows.records import Message, Record, parse_role, type_name
from ftplatform.rows.schema import Role
from ftplatform.rows.turn_merging import merge_turns


def read(opened: OpenFile) -> Iterator[Record | Quarantined]:
    """One record per conversation. Group is the conversation; slices are its vertical and scenario."""
    return read_each(opened, lambda value: "utterances" in value, _record)


def _record(conversation: dict[str, Any]) -> Record:
    utterances = conversation.get("utterances")
    if utterances is None:
        raise Malformed(Reason.MISSING_FIELD, "no 'utterances'")
    if not isinstance(utterances, list) or not all(isinstance(utterance, dict) for utterance in utterances):
        raise Malformed(Reason.WRONG_TYPE, f"'utterances' is {type_name(utterances)}, not a list of objects")
    messages: list[Message] = []
    for number, utterance in enumerate(utterances, start=1):
        text = utterance.get("text")
        if not isinstance(text, str):
            raise Malformed(Reason.WRONG_TYPE, f"'text' of utterance {number} is {type_name(text)}, not a string")
        messages.append(Message(parse_role(utterance.get("speaker")), text))
        messages += _calls(utterance.get("annotations") or [], number)
    vertical, scenario = conversation.get("vertical"), conversation.get("scenario")
    fields = {
        "group": conversation.get("conversation_id"),
        "slices": [f"{name}:{value}" for name, value in (("vertical", vertical), ("scenario", scenario)) if value],
        "conversation_id": conversation.get("conversation_id"),
        "instructions": conversation.get("instructions"),
    }
    return Record(merge_turns(messages), {name: value for name, value in fields.items() if value is not None})


def _calls(annotations: Any, number: int) -> list[Message]:
    """One tool turn per API call of an utterance: its annotations follow each other as call, request, response."""
    if not isinstance(annotations, list) or not all(isinstance(annotation, dict) for annotation in annotations):
        raise Malformed(
            Reason.WRONG_TYPE, f"'annotations' of utterance {number} is {type_name(annotations)}, not a list of objects"
        )
    calls: list[dict[str, Any]] = []
    for annotation in annotations:
        name, value = annotation.get("name"), annotation.get("value")
        if name == "api_call":
            calls.append({"api": value})
        elif name in ("request", "response") and calls:
            calls[-1][name] = _parsed(value)
    return [Message(Role.TOOL, orjson.dumps(call, option=orjson.OPT_SORT_KEYS).decode()) for call in calls]


def _parsed(value: Any) -> Any:
    """Requests and responses are JSON in a string; some are not well formed and stay text."""
    try:
        parsed = orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, Mapping | list) else value
