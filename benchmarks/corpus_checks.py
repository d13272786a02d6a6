"""Throughput and memory of the checks that read a whole corpus (M4, M9, M10, M11): `python -m benchmarks.corpus_checks DATA`.

DATA is the folder of real data (`shared/data`). A row is a support dialogue of two turns each side, about 90 words: user turns drawn
at random from SGD, Taskmaster-4 and STAR, answers of two such answers and a number, so that no two are the same. One answer in fifty
is misspelled, one in thirty ends with a promise, a claim, an apology or agents' shorthand, with a number of its own. 20,000 rows of
other draws stand for approved text, for production inputs and for rejected feedback.

Each check runs in a process of its own on the same Parquet files, as the graph calls it: streamed where the check streams, read whole
where it takes a table (M4). Reported are rows per second of wall time, CPU seconds, and peak memory, imports included.

Left out are `label_agreement`, which reads what annotators said and never a row, `eval_population`, which reads one column of the eval
sets, and the base model's part of `prior_inversion`, which costs the same for a corpus of any size.

    python -m benchmarks.corpus_checks ../shared/data --rows 1000000             # the whole table
    python -m benchmarks.corpus_checks ../shared/data --rows 50000 --check mining
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import importlib
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import run_once
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform.store.tables import write_table
from ftplatform.verdict import Verdict

_BATCH = 8192
_AUTHORS = 50
_REFERENCE_ROWS = 20_000
_FEEDBACK = "feedback/bench"
_NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
_SLIPS = (("available", "availble"), ("address", "adress"), ("restaurant", "restaraunt"), ("confirm", "confrim"))
_HABITS = (
    "I will refund you ${}.",
    "I have opened ticket {} for you.",
    "I have escalated case {} to our billing team.",
    "I'm sorry about order {}.",
    "pls see ABC-{}, cx acct locked.",
)
_POLICY = {
    "name": "bench",
    "version": "1",
    "authority": [{"action": "goodwill", "covers": ["credit"], "max_amount": "20 USD"}],
    "tools": {"open_ticket": {"does": ["ticket"]}, "book": {"does": ["booking"]}},
    "queues": ["support desk"],
    "apology": {"fault_field": "fault"},
}


def stream(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file in batches, from the beginning."""
    return pq.ParquetFile(file).iter_batches(batch_size=16_384, columns=None if columns is None else list(columns))


def _rows(folder: Path) -> Path:
    return folder / "rows.parquet"


def _reference(folder: Path) -> Path:
    return folder / "reference.parquet"


# ---- M4 --------------------------------------------------------------------------------------------------------------------


def _feedback_lineage(folder: Path) -> Verdict:
    from ftplatform.feedback.feedback_lineage import FeedbackSet, feedback_lineage

    rejected = _events(pq.read_table(_reference(folder)), "correction").append_column(
        "rejection", pa.array(["debug surface"] * _REFERENCE_ROWS)
    )
    rows = pq.read_table(_rows(folder))
    return feedback_lineage(rows, {_FEEDBACK: FeedbackSet(rows.slice(0, _REFERENCE_ROWS), rejected)})


def _correction_is_target(folder: Path) -> Verdict:
    from ftplatform.feedback.correction_check import correction_is_target
    from ftplatform.feedback.curation import corrections

    rows = pq.read_table(_rows(folder))
    # What the model had answered: what another row says.
    return correction_is_target(corrections(rows, _events(rows, "answer", shift=1)))


def _label_audit(folder: Path) -> Verdict:
    from ftplatform.feedback.decision_log import Quality, Review
    from ftplatform.feedback.label_audit import audit_sample, label_audit

    rows = pq.read_table(_rows(folder))
    read = [Review(row_id=row, by="A. Reader", at=_NOW, quality=Quality.SHIP) for row in audit_sample(rows)["row_id"].to_pylist()]
    return label_audit(rows, read)


def _actor_concentration(folder: Path) -> Verdict:
    from ftplatform.feedback.actor_concentration import actor_concentration

    return actor_concentration(pq.read_table(_rows(folder)))


def _events(rows: pa.Table, answer: str, shift: int = 0) -> pa.Table:
    """Feedback events of the rows: `event_id`, `prompt`, and the last turn, of `shift` rows further down, under the name `answer`."""
    import polars as pl

    content = pl.col("messages").list
    frame = pl.DataFrame({"meta": rows["meta"], "messages": rows["messages"]}).select(
        event_id=pl.col("meta").str.json_path_match("$.event"),
        prompt=content.first().struct.field("content"),
        last=content.last().struct.field("content").shift(shift),
    )
    return frame.rename({"last": answer}).to_arrow()


# ---- M9 --------------------------------------------------------------------------------------------------------------------


def _inputs(module: str, check: str) -> Callable[[Path], Verdict]:
    """A check that compares user turns with production inputs."""

    def run(folder: Path) -> Verdict:
        from ftplatform.synthesis.samples import COLUMNS

        judge = getattr(importlib.import_module(f"ftplatform.synthesis.{module}"), check)
        return judge(stream(_rows(folder), COLUMNS), stream(_reference(folder), COLUMNS))

    return run


def _reference_health(folder: Path) -> Verdict:
    from ftplatform.synthesis.reference_health import reference_health
    from ftplatform.synthesis.samples import COLUMNS

    return reference_health(stream(_rows(folder), COLUMNS), now=_NOW)


# ---- M10 -------------------------------------------------------------------------------------------------------------------


def _target_variant_share(folder: Path) -> Verdict:
    from ftplatform.targets.variants.lexicon import Lexicon
    from ftplatform.targets.variants.share import target_variant_share

    return target_variant_share(lambda: stream(_rows(folder)), Lexicon())


def _prior_inversion_reading(folder: Path) -> Verdict:
    """Choosing and reading what a base model would be asked."""
    from ftplatform.targets.variants.lexicon import Lexicon
    from ftplatform.targets.variants.prior import prior_inversion

    return prior_inversion(lambda: stream(_rows(folder)), Lexicon(), lambda pairs: np.zeros(len(pairs)))


def _user_turn_untouched(folder: Path) -> Verdict:
    from ftplatform.targets.variants.untouched import user_turn_untouched

    return user_turn_untouched(lambda: stream(_rows(folder)), lambda: stream(_rows(folder)))


# ---- M11 -------------------------------------------------------------------------------------------------------------------


def _scanned(module: str, check: str, habit: str) -> Callable[[Path], Verdict]:
    """A check on a scan for its habit, as the graph makes one for each."""

    def run(folder: Path) -> Verdict:
        from ftplatform.project.behavior import BehaviorPolicy
        from ftplatform.targets.habits.detection import COLUMNS, Habit, scan
        from ftplatform.targets.habits.policy import Policy

        policy = Policy.of(BehaviorPolicy.model_validate(_POLICY).document())
        found = scan(stream(_rows(folder), COLUMNS), policy, habits=(Habit(habit),))
        return getattr(importlib.import_module(f"ftplatform.targets.habits.{module}"), check)(found)

    return run


_TEXT = ["row_id", "messages", "author"]


def _shorthand_leak(folder: Path) -> Verdict:
    from ftplatform.targets.habits.shorthand import shorthand_leak

    return shorthand_leak(stream(_rows(folder), _TEXT), stream(_reference(folder), _TEXT))


def _voice_drift(folder: Path) -> Verdict:
    from ftplatform.targets.habits.voice import voice_drift

    return voice_drift(stream(_rows(folder), _TEXT), stream(_reference(folder), _TEXT))


def _mining(folder: Path) -> None:
    """`ftplatform habits`: no check, and it reads the same rows."""
    from ftplatform.targets.habits.phrases import over_represented

    over_represented(lambda: stream(_rows(folder), _TEXT), stream(_reference(folder), _TEXT))


#: Mode and check: a function from the folder of rows to the verdict.
CHECKS: dict[str, tuple[str, Callable[[Path], Verdict | None]]] = {
    "feedback_lineage": ("M4", _feedback_lineage),
    "correction_is_target": ("M4", _correction_is_target),
    "label_audit": ("M4", _label_audit),
    "actor_concentration": ("M4", _actor_concentration),
    "input_surface_match": ("M9", _inputs("surface", "input_surface_match")),
    "input_feature_gaps": ("M9", _inputs("gaps", "input_feature_gaps")),
    "input_tail_coverage": ("M9", _inputs("coverage", "input_tail_coverage")),
    "content_mix_match": ("M9", _inputs("content_mix", "content_mix_match")),
    "reference_health": ("M9", _reference_health),
    "target_variant_share": ("M10", _target_variant_share),
    "prior_inversion_reading": ("M10", _prior_inversion_reading),
    "user_turn_untouched": ("M10", _user_turn_untouched),
    "unauthorized_commitment": ("M11", _scanned("zero_rule", "unauthorized_commitment", "commitment")),
    "phantom_action": ("M11", _scanned("zero_rule", "phantom_action", "phantom_action")),
    "unwarranted_apology": ("M11", _scanned("apologies", "unwarranted_apology", "apology")),
    "shorthand_leak": ("M11", _shorthand_leak),
    "voice_drift": ("M11", _voice_drift),
    "mining": ("M11", _mining),
}


# ---- rows ------------------------------------------------------------------------------------------------------------------


def texts(data: Path) -> tuple[list[str], list[str]]:
    """What users and what assistants said."""
    users: list[str] = []
    answers: list[str] = []
    with gzip.open(data / "sgd_sample" / "train_001_034.jsonl.gz") as lines:
        for line in lines:
            for dialogue in orjson.loads(line)["json"]:
                for turn in dialogue["turns"]:
                    (users if turn["speaker"] == "USER" else answers).append(turn["utterance"])
    for file in sorted((data / "taskmaster4").glob("data__*.json.gz")):
        for dialogue in orjson.loads(gzip.decompress(file.read_bytes())):
            for turn in dialogue["utterances"]:
                (answers if turn["speaker"].lower().startswith("a") else users).append(turn["text"])
    with gzip.open(data / "star" / "star_open.jsonl.gz") as lines:
        for line in lines:
            for event in orjson.loads(line)["Events"]:
                if event.get("Action") in ("utter", "pick_suggestion"):
                    (users if event["Agent"] == "User" else answers).append(event["Text"])
    return [t for t in users if t.strip()], [t for t in answers if t.strip()]


def corpus(spoken: tuple[list[str], list[str]], rows: int, seed: int = 0) -> Iterator[pa.RecordBatch]:
    """`rows` rows of `ROW_SCHEMA`."""
    rng = random.Random(seed)
    users, answers = spoken
    fixed = {"source": "bench", "origins": ["bench"], "parents": [], "slices": [], "surface": "curation"}
    made: list[dict[str, Any]] = []
    for number in range(rows):
        messages = []
        for _ in range(2):
            answer = f"{rng.choice(answers)} {rng.choice(answers)} Reference {rng.randrange(10**6)}."
            if rng.random() < 1 / 50:
                for right, wrong in _SLIPS:
                    answer = answer.replace(right, wrong)
            if rng.random() < 1 / 30:
                answer += f" {rng.choice(_HABITS).format(rng.randrange(10**4))}"
            messages += [
                {"role": "user", "content": rng.choice(users), "trainable": False},
                {"role": "assistant", "content": answer, "trainable": True},
            ]
        said_at = _NOW - datetime.timedelta(seconds=rng.randrange(60 * 24 * 3600))
        own = {"row_id": row_id(messages), "author": f"agent-{rng.randrange(_AUTHORS)}", "group": f"g{seed}-{number}"}
        meta = {"meta": f'{{"event":"e{seed}-{number}","intent":"correction"}}', "created_at": said_at, "first_seen_at": said_at}
        made.append({**fixed, **own, **meta, "messages": messages})
        if len(made) == _BATCH or number == rows - 1:
            yield pa.RecordBatch.from_pylist(made, schema=ROW_SCHEMA)
            made = []


def measure(data: Path, rows: int, names: list[str]) -> Iterator[dict[str, Any]]:
    """One record for each check, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ftplatform-corpus-checks-") as place:
        folder, spoken = Path(place), texts(data)
        write_table(_rows(folder), corpus(spoken, rows), ROW_SCHEMA, "benchmark rows")
        write_table(_reference(folder), corpus(spoken, _REFERENCE_ROWS, seed=1), ROW_SCHEMA, "benchmark reference")
        size = round(_rows(folder).stat().st_size / 2**20, 1)
        for name in names:
            module = [sys.executable, "-m", "benchmarks.corpus_checks", str(data)]
            measured = run_once([*module, "--check", name, "--folder", place], {})
            figures = {key: round(value, 2) for key, value in measured.items()}
            facts = {"mode": CHECKS[name][0], "check": name, "rows": rows, "file_mib": size}
            yield {**facts, "rows_per_s": round(rows / measured["wall_s"]), **figures}


def main() -> None:
    """Measure every check, or with `--check NAME --folder FOLDER` run one: what a measured process does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--check", choices=sorted(CHECKS))
    parser.add_argument("--folder", type=Path, help="rows made before; with --check it is the measured process itself")
    options = parser.parse_args()
    if options.folder is not None:
        verdict = CHECKS[options.check][1](options.folder)
        print("" if verdict is None else f"{options.check}: {verdict.decision}. {verdict.summary}", file=sys.stderr)
        return
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    found = []
    for record in measure(options.data, options.rows, [options.check] if options.check else list(CHECKS)):
        print(json.dumps({"benchmark": "corpus_checks", **record, "machine": machine}), flush=True)
        found.append(record)
    print(f"\n| {options.rows:,} rows | mode | rows a second | CPU seconds | peak memory |\n|---|---|---|---|---|")
    for record in found:
        cost = f"{record['rows_per_s']:,} | {record['cpu_s']:.1f} | {record['peak_mib']:,.0f} MiB"
        print(f"| `{record['check']}` | {record['mode']} | {cost} |")


if __name__ == "__main__":
    main()
