"""Real replacements: pairs of an answer and the better one that was given instead, from data with licenses of their own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from ftplatform_tests.real_data import read_json, read_jsonl

_COLUMNS = ["prompt", "answer", "correction"]


def star(data: Path) -> pl.DataFrame:
    """What a human agent typed, and the approved reply that was sent instead of it."""
    found = []
    for dialogue in read_jsonl(data / "star" / "star_open.jsonl.gz"):
        asked = draft = None
        for event in dialogue["Events"]:
            kind = (event.get("Agent"), event.get("Action"))
            if kind == ("User", "utter"):
                asked, draft = event["Text"], None
            elif kind == ("Wizard", "request_suggestions"):
                draft = event["Text"]
            elif kind == ("Wizard", "pick_suggestion") and asked and draft and draft.strip() != event["Text"].strip():
                found.append((asked, draft, event["Text"]))
    return pl.DataFrame(found, schema=_COLUMNS, orient="row").unique(maintain_order=True)


def typed(data: Path) -> pl.DataFrame:
    """The same pairs the other way round: the replacement is what a person typed, shorter and less tidy than a template."""
    return star(data).select("prompt", answer="correction", correction="answer")


def oasst(data: Path) -> pl.DataFrame:
    """The reply that people ranked last, and the one they ranked first."""
    found = []
    waiting: list[dict[str, Any]] = [tree["prompt"] for tree in read_jsonl(data / "oasst_sample" / "en_100_tree.jsonl.gz")]
    while waiting:
        node = waiting.pop()
        waiting += node["replies"]
        ranked = sorted((r for r in node["replies"] if r.get("rank") is not None), key=lambda r: r["rank"])
        if node["role"] == "prompter" and len(ranked) > 1:
            found.append((node["text"], ranked[-1]["text"], ranked[0]["text"]))
    return pl.DataFrame(found, schema=_COLUMNS, orient="row")


def self_instruct(data: Path) -> pl.DataFrame:
    """What a model without instruction tuning wrote, and what a person wrote: code, lists and stories, nothing like support."""
    name = "human_eval__predictions__davinci-self-instruct_predictions.jsonl.gz"
    found = [(r["prompt"], r["response"], r["target"]) for r in read_jsonl(data / "self_instruct" / name) if r["target"].strip()]
    return pl.DataFrame(found, schema=_COLUMNS, orient="row")


def coffee(data: Path) -> pl.DataFrame:
    """What crowd workers at a coffee bar's desk said to a customer, each different reply once; there is no old answer."""
    said = [
        (asked["text"], reply["text"])
        for path in sorted((data / "taskmaster4").glob("data__*.json.gz"))
        for dialogue in read_json(path)
        for asked, reply in pairwise(dialogue["utterances"])
        if (asked["speaker"], reply["speaker"]) == ("user", "assistant") and asked.get("text") and reply.get("text")
    ]
    found = [(prompt, None, reply) for prompt, reply in dict.fromkeys(said)]
    return pl.DataFrame(found, schema=dict.fromkeys(_COLUMNS, pl.String), orient="row")
