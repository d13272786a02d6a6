"""What each remedy keeps of the base's refusals, and what it costs: `python -m benchmarks.alignment [--seeds 3] [--steps 300] [--json]`.

The bundled base model is tuned on the bundled conversations and articles, per recipe and seed (order of the data and first weights
of the adapter). Recipes: no remedy; 5 % and 15 % of the safety mix; a tenth of the learning rate; and the first adapter again with
what it writes along the refusal direction taken out afterwards (after Arditi et al. 2024; no training). Measured: the four sides of
an evaluation and what the gate would say. Intervals are Student t over seeds, so with three seeds they are wide.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ftplatform.evaluation.answer_cache import AnswerCache
from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.regression import task_regression
from ftplatform.evaluation.retention import helpfulness_retention, overrefusal_retention, refusal_retention
from ftplatform.evaluation.retention_rule import Limits
from ftplatform.evaluation.suite import EvaluationResult, evaluate
from ftplatform.evaluation.tasks import Metric
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import prepare
from ftplatform.training.mix import with_safety_mix
from ftplatform.training.train import train
from ftplatform_tests.aligned_world import BASE, exam, read, rows_of
from ftplatform_tests.aligned_world import refusal_directions as directions

RATE = 3e-3
#: Recipe to (share of the safety mix, learning rate).
TRAINED: Mapping[str, tuple[float, float]] = {
    "no remedy": (0.0, RATE),
    "5 % safety mix": (0.05, RATE),
    "15 % safety mix": (0.15, RATE),
    "a tenth of the rate": (0.0, RATE / 10),
}
PROJECTED = "no remedy, then projected"
SIDES = ("refusal", "overrefusal", "helpfulness", "task")


def measure(steps: int, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One record per recipe and seed."""
    data = rows_of(read("transcripts.jsonl") + read("help_center.jsonl"))
    mix = rows_of(read("safety_mix.jsonl"))
    sets = [
        # As many of each category as the check asks for.
        exam("refusal_probes", Kind.REFUSAL_PROBES, each=62, max_new_tokens=16),
        exam("overrefusal_probes", Kind.OVERREFUSAL_PROBES, max_new_tokens=16),
        exam("benign_requests", Kind.HELPFULNESS_PROBES, metric=Metric.CONTAINS, max_new_tokens=16),
        exam("support_questions", Kind.TASK, metric=Metric.CONTAINS, max_new_tokens=28),
    ]
    known: AnswerCache | None = None
    with tempfile.TemporaryDirectory(prefix="ftplatform-alignment-") as place:
        for seed in seeds:
            adapters: dict[str, Path] = {}
            for name, (share, rate) in TRAINED.items():
                rows = Path(place) / "rows.parquet"
                pq.write_table(with_safety_mix(data, mix, share, seed), rows)
                recipe = Optimization(steps=steps, batch_size=32, learning_rate=rate, schedule="cosine", seed=seed)
                manifest = prepare(
                    BASE, rows, base_name="base", optimization=recipe, max_tokens=256, adapter_seed=seed, device="cpu"
                )
                adapters[name] = Path(place) / f"{len(adapters)}-{seed}"
                train(manifest, adapters[name])
            adapters[PROJECTED] = project(adapters["no remedy"], Path(place) / f"projected-{seed}", mix)
            for name, adapter in adapters.items():
                result = evaluate(Generator.load(BASE, adapter, device="cpu", batch_size=128), sets, cache=known)
                known = result.cache
                yield {"recipe": name, "seed": seed, **figures(result)}


def project(adapter: Path, out: Path, mix: pa.Table) -> Path:
    """The adapter without what it writes into the residual stream along the refusal direction of each layer."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(adapter, out)
    file = out / "adapter_model.safetensors"
    weights = load_file(str(file))
    for layer, direction in enumerate(directions(mix)):
        for module in ("self_attn.o_proj", "mlp.down_proj"):
            (name,) = (n for n in weights if f"layers.{layer}.{module}.lora_B" in n)
            weights[name] = (weights[name] - np.outer(direction, direction @ weights[name])).astype(np.float32)
    save_file(weights, str(file), metadata={"format": "pt"})
    return out


def figures(result: EvaluationResult) -> dict[str, Any]:
    """Shares of the tuned model (`base_*`: of its base) on the four sides, and what each check decides."""
    plain: Limits = {"conditions": ("plain",)}
    tables = {
        "refusal": result.of_kind(Kind.REFUSAL_PROBES),
        "overrefusal": result.of_kind(Kind.OVERREFUSAL_PROBES),
        "helpfulness": result.of_kind(Kind.HELPFULNESS_PROBES),
        "task": result.of_kind(Kind.TASK),
    }
    verdicts = {
        "refusal": refusal_retention(tables["refusal"], **plain),
        "overrefusal": overrefusal_retention(tables["overrefusal"], **plain),
        "helpfulness": helpfulness_retention(tables["helpfulness"], **plain),
        "task": task_regression(tables["task"]),
    }
    found: dict[str, Any] = {}
    for side, verdict in verdicts.items():
        overall = verdict.details["overall"] if side == "task" else verdict.details["conditions"]["plain"]["overall"]
        found |= {side: overall["tuned"], f"base_{side}": overall["base"], f"{side}_gate": str(verdict.decision)}
    harmful = pl.DataFrame(pl.from_arrow(tables["refusal"]))
    found["complied"] = float((harmful["tuned_label"] == "comply").mean())  # pyright: ignore[reportArgumentType]
    return found


def interval(values: Sequence[float]) -> str:
    """Mean, and the 95 % t interval over seeds cut to [0, 1]."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{100 * mean:5.1f}"
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{100 * mean:5.1f} [{100 * max(0.0, mean - half):.1f}, {100 * min(1.0, mean + half):.1f}]"


def main() -> None:
    """Print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    options = parser.parse_args()
    started, cpu = time.perf_counter(), time.process_time()
    records = []
    for record in measure(options.steps, range(options.seeds)):
        records.append(record)
        if not options.json:
            print(f"  seed {record['seed']} {record['recipe']}: {record}", flush=True)
    by_recipe = {name: [r for r in records if r["recipe"] == name] for name in (*TRAINED, PROJECTED)}
    if not options.json:
        base = records[0]
        print(f"{'recipe':28} " + " ".join(f"{side:>22}" for side in (*SIDES, "complied")) + "   gate lets through")
        print(f"{'base model':28} " + " ".join(f"{100 * base[f'base_{side}']:22.1f}" for side in SIDES))
        for name, runs in by_recipe.items():
            shares = " ".join(f"{interval([r[side] for r in runs]):>22}" for side in (*SIDES, "complied"))
            through = sum(all(r[f"{side}_gate"] == "pass" for side in SIDES) for r in runs)
            print(f"{name:28} {shares}   {through} of {len(runs)}")
    machine = {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    versions = {package: version(package) for package in ("torch", "transformers", "peft")}
    spent = {"cpu_s": round(time.process_time() - cpu, 1), "wall_s": round(time.perf_counter() - started, 1)}
    print(json.dumps({"benchmark": "alignment", "machine": machine, "versions": versions, **spent, "records": records}))


if __name__ == "__main__":
    main()
