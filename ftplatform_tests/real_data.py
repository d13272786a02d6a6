"""Real data with known answers as row tables."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform_tests.tables import row, table


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Records of a gzipped CSV."""
    with gzip.open(path) as raw:
        return list(csv.DictReader(io.TextIOWrapper(raw, "utf-8"), delimiter=delimiter))


def read_json(path: Path) -> Any:
    """A gzipped JSON document."""
    with gzip.open(path) as raw:
        return json.load(raw)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records of a gzipped JSON Lines file."""
    with gzip.open(path) as raw:
        return [json.loads(line) for line in raw]


def banking77(data: Path, part: str) -> pa.Table:
    """Bank customers' queries; the intent is the slice. `part` is train or test."""
    return table(
        row(r["text"], slices=[r["category"]], source="banking77") for r in read_csv(data / "banking77" / f"{part}.csv.gz")
    )


def bitext(data: Path) -> pa.Table:
    """Template-generated customer-support utterances."""
    path = data / "bitext_intents" / "train__Bitext_Sample_Customer_Service_Training_Dataset.csv.gz"
    return table(row(r["utterance"], source="bitext") for r in read_csv(path))


def multidogo(data: Path, domain: str, part: str, min_words: int = 1) -> pa.Table:
    """Customer sentences of support chats; the conversation is the group."""
    records = read_csv(data / "multidogo" / f"sentence_level__{domain}__{part}.tsv.gz", "\t")
    said = [(r["conversationId"], r["utterance"]) for r in records if r["utterance"] and len(r["utterance"].split()) >= min_words]
    return table(row(text, group=group, source=f"multidogo-{domain}") for group, text in said)


def clinc150(data: Path, part: str) -> pa.Table:
    """Crowd-written queries with their intents; `part` is train or test."""
    document = read_json(data / "clinc150" / "data_full.json.gz")
    return table(row(text, slices=[intent], source="clinc150") for text, intent in document[part])


def gsm8k(data: Path, part: str) -> pa.Table:
    """School arithmetic with worked answers."""
    return table(row(r["question"], r["answer"], source="gsm8k") for r in read_jsonl(data / "gsm8k" / f"{part}.jsonl.gz"))


def gpteacher(data: Path, version: str) -> pa.Table:
    """Tool-use instructions; the tools are the slice. `version`: dedupe-only, or similarity-0.6 to -0.9 (the authors' filter)."""
    rows = []
    for r in read_json(data / "gpteacher" / f"Toolformer__toolformer-{version}-dataset.json.gz"):
        _, found, rest = r["instruction"].partition("toolformer access: ")
        tools = [rest.splitlines()[0].strip()] if found else []
        rows.append(row(f"{r['instruction']}\n{r['input']}".strip(), r["response"] or "(none)", slices=tools, source="gpteacher"))
    return table(rows)
