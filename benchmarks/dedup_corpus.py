"""Rows with planted copies, assembled from real texts: what `benchmarks.dedup` measures on.

A row is an instruction, a run of dialogue turns and one to ten sentences. `COPIES` of the rows are copies of another row: exact,
reformatted (case, punctuation, spacing), edited word by word, or with one sentence more or less.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

#: Share of rows that are copies, the kinds of copies with their shares, and the largest family.
COPIES = 0.15
KINDS = {"exact": 0.25, "format": 0.15, "edit": 0.40, "sentence": 0.20}
LARGEST_FAMILY = 20
#: Share of words an edited copy changes: one of these.
_EDIT_RATES = (0.01, 0.02, 0.04, 0.06, 0.08, 0.12)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Sources:
    """Texts to assemble rows from: instructions, dialogues (lists of turns), sentences, and words for edits."""

    instructions: list[str]
    dialogues: list[list[str]]
    sentences: list[str]
    words: list[str]


def sources(data: Path) -> Sources:
    """Real texts below `data` (GPTeacher, Self-Instruct, SGD, Taskmaster-4, GSM8K, CLINC150, banking77, MultiDoGO)."""
    instructions: list[str] = []
    sentences: list[str] = []
    for file in sorted((data / "gpteacher").glob("*dedupe-only*.gz")) + sorted((data / "gpteacher").glob("Codegen*.gz")):
        for row in json.loads(_read(file)):
            instructions.append(f"{row['instruction']} {row['input']}"[:140])
            sentences += _SENTENCE.split(row["response"])[:6]
    for row in _lines(data / "self_instruct" / "human_eval__user_oriented_instructions.jsonl.gz"):
        instructions.append(row["instruction"])
    dialogues = [
        [turn["utterance"] for turn in dialogue["turns"]]
        for row in _lines(data / "sgd_sample" / "train_001_034.jsonl.gz")
        for dialogue in row["json"]
    ]
    for file in sorted((data / "taskmaster4").glob("data__*.gz")):
        dialogues += [[turn["text"] for turn in dialogue["utterances"]] for dialogue in json.loads(_read(file))]
    for file in sorted((data / "gsm8k").glob("*.gz")):
        for row in _lines(file):
            sentences += _SENTENCE.split(row["question"])
            instructions.append(row["question"][:140])
    for part in json.loads(_read(data / "clinc150" / "data_full.json.gz")).values():
        sentences += [text for text, _ in part]
    for file in sorted((data / "banking77").glob("*.csv.gz")):
        sentences += [row["text"] for row in csv.DictReader(io.StringIO(_read(file)))]
    for file in sorted((data / "multidogo").glob("sentence_level__*.tsv.gz")):
        sentences += [row["utterance"] for row in csv.DictReader(io.StringIO(_read(file)), delimiter="\t")]
    sentences = sorted({s.strip() for s in sentences if 15 < len(s) < 90})
    words = sorted({word for sentence in sentences for word in sentence.split()})
    return Sources(sorted({i for i in instructions if i.strip()}), [d for d in dialogues if d], sentences, words)


def corpus(texts: Sources, rows: int, seed: int = 0) -> pa.Table:
    """Table of `text` (large_string), `family` (int64: rows of one original) and `kind` (string), in random order."""
    random = np.random.default_rng(seed)
    written, families, kinds = [], [], []
    for family, (row, copies) in enumerate(_families(texts, rows, random)):
        written.append(" ".join(row))
        kinds.append("original")
        for _ in range(copies):
            kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
            written.append(_COPY[kind](row, texts, random))
            kinds.append(kind)
        families += [family] * (1 + copies)
    order = random.permutation(len(written))[:rows]
    table = pa.table({"text": pa.array(written, pa.large_string()), "family": families, "kind": kinds})
    return table.take(pa.array(order))


def _families(texts: Sources, rows: int, random: np.random.Generator) -> Iterator[tuple[list[str], int]]:
    # A family with copies has on average four, so that 15 % copies need 4.4 % of the originals to have some.
    share = COPIES / (1 - COPIES) / 4
    made = 0
    while made < rows:
        copies = min(int(random.geometric(0.25)), LARGEST_FAMILY - 1) if random.random() < share else 0
        yield _row(texts, random), copies
        made += 1 + copies


def _row(texts: Sources, random: np.random.Generator) -> list[str]:
    dialogue = texts.dialogues[random.integers(len(texts.dialogues))]
    start, length = random.integers(len(dialogue)), random.integers(0, 4)
    picks = random.integers(len(texts.sentences), size=random.integers(1, 11))
    instruction = texts.instructions[random.integers(len(texts.instructions))]
    return [instruction, *dialogue[start : start + length], *(texts.sentences[k] for k in picks)]


def _exact(row: list[str], texts: Sources, random: np.random.Generator) -> str:
    return " ".join(row)


def _format(row: list[str], texts: Sources, random: np.random.Generator) -> str:
    text = "\n".join(row)
    change: list[Callable[[str], str]] = [str.upper, str.lower, str.title, lambda t: re.sub(r"[.,!?]", "", t)]
    return change[random.integers(len(change))](text)


def _edit(row: list[str], texts: Sources, random: np.random.Generator) -> str:
    words = " ".join(row).split()
    for k in np.flatnonzero(random.random(len(words)) < random.choice(_EDIT_RATES)).tolist():
        words[k] = texts.words[random.integers(len(texts.words))]
    return " ".join(words)


def _sentence(row: list[str], texts: Sources, random: np.random.Generator) -> str:
    at = int(random.integers(len(row)))
    if len(row) > 2 and random.random() < 0.5:
        return " ".join(row[:at] + row[at + 1 :])
    return " ".join([*row[:at], texts.sentences[random.integers(len(texts.sentences))], *row[at:]])


_COPY: dict[str, Callable[[list[str], Sources, np.random.Generator], str]] = {
    "exact": _exact,
    "format": _format,
    "edit": _edit,
    "sentence": _sentence,
}


def _read(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode()


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _read(file).splitlines())
