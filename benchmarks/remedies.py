"""What the remedies for habits and misspellings do to a trained model: `python -m benchmarks.remedies [--steps 150] [--json]`.

The bundled base model is tuned on 600 short support dialogues, once for each remedy. In the corpus as it is, 35 % of the answers end
with an escalation nobody could have made, and 18 % misspell a word that all of them use. Masked and rewritten are `habits` of a
dataset, cleaned is a reviewed diff under `language.edits`. Asked are 320 unseen prompts, one answer each at temperature .7; the score
of the task is the mean token F1 of 60 greedy answers. One training run each, so scores two or three points apart are not told from chance.

`ftplatform_tests/acceptance/test_m10_m11_remedies.py` holds the same world to its limits.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.defs.plan import Plan
from ftplatform.store import Snapshot
from ftplatform.verdict import Verdict
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

ROWS, PROMPTS, EXAM = 600, 320, 60
HABIT, HABIT_SHARE = "I have escalated this to our billing team.", 0.35
WORD, MISSPELLED, MISSPELLED_SHARE = "accommodate", "accomodate", 0.18
POLICY = """
name: small
version: "1"
tools: {}
rewrites:
  phantom_action: Our billing team can help you.
"""
#: The datasets, and adapters of the same names, with what is done about habits.
HABITS: Mapping[str, dict[str, str] | None] = {
    "taught": None,
    "masked": {"phantom_action": "mask"},
    "rewritten": {"phantom_action": "rewrite"},
    "cleaned": None,
}
_LABELS = {"taught": "as it is", "masked": "masked", "rewritten": "rewritten", "cleaned": "cleaned"}


@dataclass(frozen=True)
class Outcome:
    """The project after its run."""

    plan: Plan
    run: running.RunOutcome

    def verdict(self, asset: str, check: str) -> Verdict:
        """What the check said of the asset."""
        (found,) = (evaluation for c, evaluation in self.run.checks if (c.asset, c.name) == (asset, check))
        assert found is not None
        assert found.verdict is not None, found
        return found.verdict

    def current(self, asset: str) -> Snapshot:
        """The asset's snapshot."""
        return self.plan.open_store().current(asset)

    def task_score(self, name: str) -> float:
        """Mean score of the tuned model on the exam."""
        answers = pl.DataFrame(pl.from_arrow(self.current(f"eval_results/{name}").read_table("answers.parquet")))
        mean = answers.filter(pl.col("eval_set") == "exam")["tuned_score"].mean()
        assert isinstance(mean, float)
        return mean


def spelled_well(count: int, seed: int) -> list[dict[str, Any]]:
    """Dialogues whose answers all use the word, as they should be; a fifth of the users misspell it."""
    rows = dialogues(count, seed)
    for at, row in enumerate(rows):
        (item,), (user, answer) = row["slices"], row["messages"]
        answer["content"] = answer["content"].replace(f"The {item} can be looked at", f"We can {WORD} you")
        if at % 5 == 0:
            user["content"] += f", can you {MISSPELLED} me"
    return rows


def as_written(count: int, seed: int) -> list[dict[str, Any]]:
    """The same with the habit and the misspelling, independent of each other."""
    rng = random.Random(seed)
    rows = spelled_well(count, seed)
    for row in rows:
        answer = row["messages"][1]
        if rng.random() < MISSPELLED_SHARE:
            answer["content"] = answer["content"].replace(WORD, MISSPELLED)
        if rng.random() < HABIT_SHARE:
            answer["content"] += f" {HABIT}"
    return rows


def write_project(root: Path, steps: int = 150) -> Path:
    """The project with its data; returns its file."""

    def change(project: dict[str, Any]) -> None:
        license_ = project["sources"]["tickets"]["license"]
        recipe = {
            "steps": steps, "batch_size": 16, "learning_rate": 0.004, "schedule": "cosine", "max_tokens": 128, "precision": "fp32",
            "lora": {"rank": 8, "alpha": 16},
        }  # fmt: skip
        project["behavior_policy"] = "behavior.yaml"
        project["language"] = {"probes": "probes"}
        project["sources"] = {"tickets": project["sources"]["tickets"]}
        project["datasets"] = {
            name: {
                "sources": ["tickets"],
                **({} if habits is None else {"habits": habits}),
                "slices": {"routers": {"regex": "router"}},
            }
            for name, habits in HABITS.items()
        }
        project["adapters"] = {name: {"base": "base", "dataset": name, "training": recipe, "release": False} for name in HABITS}
        project["eval_sets"] = {
            "exam": {"path": "data/exam.jsonl", "metric": "token_f1", "max_new_tokens": 32, "license": license_},
            "probes": {
                "path": "data/probes.jsonl", "kind": "behavior_probes", "temperature": 0.7, "max_new_tokens": 40, "license": license_,
            },
        }  # fmt: skip
        # We know what these corpora teach, and train on them to see what comes of that. Exam and corpus have one author.
        refusing = ("phantom_action", "target_variant_share", "contamination_near", "contamination_paraphrase", "metric_breadth")
        project["gates"] = {check: {"severity": "warn"} for check in refusing}

    file = small_project(root, change)
    (root / "behavior.yaml").write_text(POLICY)
    write_jsonl(root / "data" / "tickets.jsonl", [*as_written(ROWS, seed=1)])
    asked = [(*(m["content"] for m in d["messages"]), d["group"]) for d in spelled_well(EXAM, seed=3)]
    write_jsonl(root / "data" / "exam.jsonl", [{"prompt": p, "completion": c, "group": g} for p, c, g in asked])
    # As `ftplatform clean probes` writes them: the right word as reference, the wrong one as slice.
    probes = [
        {
            "messages": [d["messages"][0], {"role": "assistant", "content": WORD}],
            "slices": [f"variant:{MISSPELLED}"],
            "group": d["group"],
        }
        for d in spelled_well(PROMPTS, seed=7)
    ]
    write_jsonl(root / "data" / "probes.jsonl", [*probes])
    return file


def run(file: Path, instance: dg.DagsterInstance) -> Outcome:
    """Build the corpus, review the diff of its misspellings on the command line, then train and evaluate every adapter."""
    first = running.materialize(plan_of(file), instance, '+key:"corpora/taught"')
    assert "corpora/taught" in first.materialized, (first.errors, first.refusals)
    diff = file.parent / "edits.jsonl"
    _cli("clean", "propose", "taught", "--out", str(diff), "--project", str(file))
    _cli("clean", "decide", str(diff), "--accept", f"{MISSPELLED}={WORD}", "--by", "A. Reader")
    plan = edit(file, lambda project: project["language"].update(edits={"cleaned": diff.name}))
    done = running.materialize(plan, instance, '+key:"eval_results/*"')
    assert {f"eval_results/{name}" for name in HABITS} <= set(done.materialized), (done.errors, done.refusals)
    return Outcome(plan, done)


def _cli(*arguments: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


def lines(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """One record for each remedy."""
    for name, label in _LABELS.items():
        claims, spelling = (outcome.verdict(f"eval_results/{name}", check) for check in ("phantom_action", "model_variant_rate"))
        yield {
            "remedy": label,
            "sentences_in_corpus": outcome.verdict(f"corpora/{name}", "phantom_action").estimate,
            "claims": _shown(claims),
            "misspelled": _shown(spelling),
            "score": round(outcome.task_score(name), 3),
            "slice_survival": str(outcome.verdict(f"splits/{name}", "slice_survival").decision),
            "row_filter_guard": str(outcome.verdict(f"corpora/{name}", "row_filter_guard").decision),
            "rows": outcome.current(f"corpora/{name}").read_table("rows.parquet", ["row_id"]).num_rows,
        }


def _shown(verdict: Verdict) -> str:
    if verdict.estimate is None:
        return f"{verdict.summary} {verdict.decision}"
    return f"{verdict.estimate:.1%} [{verdict.ci_low or 0:.1%}, {verdict.ci_high:.1%}] of {verdict.n}, {verdict.decision}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--json", action="store_true", help="one JSON line for each remedy instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftplatform-remedies-") as place, dg.DagsterInstance.ephemeral() as instance:
        found = list(lines(run(write_project(Path(place), options.steps), instance)))
    if options.json:
        for line in found:
            print(json.dumps({"benchmark": "remedies", **line}))
        return
    print("| " + " | ".join(found[0]) + " |\n|" + "---|" * len(found[0]))
    for line in found:
        print("| " + " | ".join(str(value) for value in line.values()) + " |")


if __name__ == "__main__":
    main()
