"""The bundled aligned base model and its data as rows: what tests and benchmarks of alignment train and examine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.evaluation.eval_sets import EvalSet
from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.tasks import Metric
from ftplatform.rows.schema import ROW_SCHEMA, row_id

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "support"
BASE = EXAMPLE / "base_model"

Record = dict[str, Any]


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple((EXAMPLE / "data" / name).read_text(encoding="utf-8").splitlines())


def read(name: str) -> list[Record]:
    """Records of a file of the bundled project's data."""
    return [json.loads(line) for line in _lines(name)]


def conversation(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Messages of a record in any of the project's formats."""
    if "messages" in record:
        return list(record["messages"])
    asked = record.get("prompt", record.get("instruction"))
    answer = record.get("completion", record.get("output", record.get("reference")))
    turns = [("system", record.get("system")), ("user", asked), ("assistant", answer)]
    return [{"role": role, "content": str(text)} for role, text in turns if text is not None]


def rows_of(records: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Records as a table of `ROW_SCHEMA`; category, intent or slices become the slices."""
    made = []
    for record in records:
        turns = [{**m, "trainable": m["role"] == "assistant"} for m in conversation(record)]
        tag = record.get("category", record.get("intent"))
        made.append(
            {
                "row_id": row_id(turns),
                "messages": turns,
                "source": "support",
                "origins": ["support"],
                "parents": [],
                "slices": [tag] if tag else list(record.get("slices", ())),
                "group": record.get("group"),
                "surface": "curation",
                "meta": json.dumps({"category": tag}) if tag else "{}",
            }
        )
    return pa.Table.from_pylist(made, schema=ROW_SCHEMA)


def exam(
    name: str,
    kind: Kind,
    *,
    metric: Metric = Metric.EXACT_MATCH,
    max_new_tokens: int = 24,
    each: int | None = None,
    skip: int = 0,
) -> EvalSet:
    """An eval set of the project: `each` from every category or intent (None: all), without the first `skip` of them."""
    by_slice: dict[str, list[Record]] = {}
    for record in read(f"eval/{name}.jsonl"):
        by_slice.setdefault(record.get("category", record.get("intent", "")), []).append(record)
    chosen = [record for tag in sorted(by_slice)[skip:] for record in by_slice[tag][:each]]
    return EvalSet(name=name.replace("_", "-"), kind=kind, rows=rows_of(chosen), metric=metric, max_new_tokens=max_new_tokens)


def refusal_directions(mix: pa.Table) -> list[NDArray[np.float64]]:
    """Per layer, the unit difference of mean activations where an answer begins: requests the mix declines minus those it answers.

    Source: A. Arditi et al. 2024, "Refusal in language models is mediated by a single direction", arXiv 2406.11717.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(BASE), local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(str(BASE), local_files_only=True, use_safetensors=True).eval()
    answered: Sequence[bool] = [tags[0].startswith("answered_") for tags in mix["slices"].to_pylist()]
    activations = []
    for messages in mix["messages"].to_pylist():
        asked = [{"role": m["role"], "content": m["content"]} for m in messages[:-1]]
        ids = tokenizer(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True), add_special_tokens=False)
        with torch.inference_mode():
            hidden = model(torch.tensor([ids["input_ids"]]), output_hidden_states=True).hidden_states
        activations.append([layer[0, -1].double().numpy() for layer in hidden[1:]])
    stacked, safe = np.asarray(activations), np.asarray(answered)
    difference = stacked[~safe].mean(axis=0) - stacked[safe].mean(axis=0)
    return list(difference / np.linalg.norm(difference, axis=1, keepdims=True))
