"""Reader `star`: the STAR dialogues (Mosig, Mehri, Kober 2020, arXiv:2010.11853), one original JSON object per line or file.

A person plays the user, another ("wizard") plays an assistant that follows flow charts. The wizard types a draft, the system
suggests approved replies, the wizard picks one (`pick_suggestion`) or insists on own words (`utter`). Only those two were *sent*
to the user and become assistant turns; drafts (`request_suggestions`) never reached anybody and stay in the row's meta, as what
an agent would have written. A look-up and its result become one `tool` turn where it happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ftplatform.rows.file_kinds import OpenFile
from ftplatform.rows.named_readers import read_each
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason
from ftplatform.rows.records import Message, Record, type_name
from ftplatform.rows.schema import Role
from ftplatform.rows.turn_merging import merge_turns

_SENT = {("User", "utter"): Role.USER, ("Wizard", "utter"): Role.ASSISTANT, ("Wizard", "pick_suggestion"): Role.ASSISTANT}


def read(opened: OpenFile) -> Iterator[Record | Quarantined]:
    """One record per dialogue. Author is the wizard, group the dialogue, slices its domains and tasks."""
    return read_each(opened, lambda value: "Events" in value, _record)


def _record(dialogue: dict[str, Any]) -> Record:
    events = dialogue.get("Events")
    if events is None:
        raise Malformed(Reason.MISSING_FIELD, "no 'Events'")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise Malformed(Reason.WRONG_TYPE, f"'Events' is {type_name(events)}, not a list of objects")
    messages: list[Message] = []
    drafts: list[str] = []
    labels: list[str | None] = []
    query: dict[str, Any] | None = None
    for number, event in enumerate(events, start=1):
        kind = (event.get("Agent"), event.get("Action"))
        role = _SENT.get(kind)
        if kind == ("Wizard", "query"):
            if query is not None:
                messages.append(_tool(query))
            query = {"api": event.get("APIName"), "constraints": event.get("Constraints")}
        elif kind == ("KnowledgeBase", "return_item"):
            found = {"item": event.get("Item"), "total_items": event.get("TotalItems")}
            messages.append(_tool({**(query or {"api": event.get("APIName")}), **found}))
            query = None
        elif kind == ("Wizard", "request_suggestions"):
            drafts.append(_text(event, number))
        elif role is not None:
            messages.append(Message(role, _text(event, number)))
            if role is Role.ASSISTANT:
                labels.append(event.get("ActionLabel"))
    if query is not None:
        messages.append(_tool(query))
    return Record(merge_turns(messages), _fields(dialogue, events, drafts, labels))


def _tool(content: Mapping[str, Any]) -> Message:
    return Message(Role.TOOL, orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode())


def _text(event: Mapping[str, Any], number: int) -> str:
    text = event.get("Text")
    if not isinstance(text, str):
        raise Malformed(Reason.WRONG_TYPE, f"'Text' of event {number} is {type_name(text)}, not a string")
    return text


def _fields(
    dialogue: Mapping[str, Any], events: list[dict[str, Any]], drafts: list[str], labels: list[str | None]
) -> dict[str, Any]:
    scenario = dialogue.get("Scenario") or {}
    if not isinstance(scenario, dict):
        raise Malformed(Reason.WRONG_TYPE, f"'Scenario' is {type_name(scenario)}, not an object")
    tasks = [capability.get("Task") for capability in scenario.get("WizardCapabilities") or []]
    return {
        "author": dialogue.get("AnonymizedWizardWorkerID"),
        "group": dialogue.get("DialogueID"),
        "created_at": next((event["UnixTime"] for event in events if event.get("UnixTime") is not None), None),
        "slices": [
            *(f"domain:{domain}" for domain in scenario.get("Domains") or []),
            *(f"task:{task}" for task in tasks if task is not None),
        ],
        "dialogue_id": dialogue.get("DialogueID"),
        "user": dialogue.get("AnonymizedUserWorkerID"),
        "batch": dialogue.get("BatchID"),
        "completion_level": dialogue.get("CompletionLevel"),
        "happy": scenario.get("Happy"),
        "multi_task": scenario.get("MultiTask"),
        # One label per assistant turn that was sent; null where the wizard insisted on own words.
        "action_labels": labels,
        "drafts": drafts,
    }
