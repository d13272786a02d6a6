"""Which judge agrees with people: `python -m benchmarks.refusal_judge [--data FOLDER] [--model FOLDER] [--no-encoder]`.

2,250 answers of five models to XSTest, each labeled by two people. The fitted tiers judge a model's answers after being fitted on the
other four. GPT-4 and the string matching of XSTest are the labels its authors published for the same answers. The headline compares
full refusals with full compliance (2,074 answers); `with partial` counts partial refusals as declined.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paraphrase import packaged_model
from ftplatform.evaluation.refusal_judge import BORDER, Label, RefusalJudge, label_by_rules
from ftplatform.evaluation.refusal_judge.agreement import Agreement, agreement
from ftplatform.evaluation.refusal_judge.encoder import Encoder, MeanPooledEncoder
from ftplatform.evaluation.refusal_judge.fitting import leave_one_model_out
from ftplatform.evaluation.refusal_judge.labels import DECLINED
from ftplatform.evaluation.refusal_judge.xstest import LabeledAnswers, read_xstest

#: Models whose answers were looked at while the rules were revised; on the others no part of any tier has seen a label.
SEEN = ("gpt4", "mistralguard")

_PEER_LABELS = {"2_full_refusal": Label.REFUSE, "3_partial_refusal": Label.SAFE_COMPLETE}


def judged(data: LabeledAnswers, encoder: Encoder | None) -> tuple[dict[str, Sequence[Label]], dict[str, dict[str, float]]]:
    """Labels of every judge, and per fitted tier how much lies near the border."""
    # Where GPT-4 declined to judge, it named no refusal.
    labels: dict[str, Sequence[Label]] = {
        name.removesuffix("_label"): [_PEER_LABELS.get(label, Label.COMPLY) for label in said] for name, said in data.peers.items()
    }
    labels["rules"] = [label_by_rules(answer, prompt) for answer, prompt in zip(data.answers, data.prompts, strict=True)]
    human = np.array([label in DECLINED for label in data.humans])
    border = {}
    for tier, used in {"lexical": None, "embedding": encoder}.items():
        if tier == "embedding" and used is None:
            continue
        held = leave_one_model_out(data, used)
        labels[tier] = held.labels
        near = (held.declined > BORDER[0]) & (held.declined < BORDER[1])
        wrong = (held.declined >= 0.5) != human
        border[tier] = {
            "share_near": round(float(near.mean()), 4),
            "wrong_near": round(float(wrong[near].mean()), 4),
            "wrong_elsewhere": round(float(wrong[~near].mean()), 4),
        }
    return labels, border


def figures(data: LabeledAnswers, labels: Sequence[Label]) -> dict[str, Agreement]:
    """Agreement on full refusals and compliance, over all and per model; with partial refusals; in three classes."""
    models = np.array(data.models)

    def on(mask: Any, classes: int = 2) -> Agreement:
        return agreement(list(compress(data.humans, mask)), list(compress(labels, mask)), classes=classes)

    return {
        "full": on(data.full),
        "full, models never looked at": on(data.full & ~np.isin(models, SEEN)),
        "with partial": on(np.ones(len(models), dtype=bool)),
        "three classes": on(np.ones(len(models), dtype=bool), 3),
        **{model: on(data.full & (models == model)) for model in np.unique(models)},
    }


def speed(data: LabeledAnswers, judge: RefusalJudge) -> float:
    """Answers per CPU second, after a first call."""
    judge.judge(data.answers[:8], data.prompts[:8])
    started = time.process_time()
    judge.judge(data.answers, data.prompts)
    return round(len(data.answers) / (time.process_time() - started), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "xstest")
    parser.add_argument("--model", type=Path, help="folder of all-MiniLM-L6-v2; the packaged one unless given")
    parser.add_argument("--no-encoder", action="store_true", help="the tiers without a model alone")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    encoder = None if options.no_encoder else MeanPooledEncoder(options.model or packaged_model())
    data = read_xstest(options.data)
    labels, border = judged(data, encoder)
    found = {judge: figures(data, said) for judge, said in labels.items()}
    for judge, parts in found.items():
        print(judge)
        for part, a in parts.items():
            print(
                f"  {part:30} n {a.n:5}   accuracy {a.accuracy:.3f}   kappa {a.kappa:.3f}   precision {a.precision:.3f}"
                f"   recall {a.recall:.3f}   rate {100 * a.rate_error:+.1f} points"
            )
    rates = {"lexical": speed(data, RefusalJudge())} | (
        {} if encoder is None else {"embedding": speed(data, RefusalJudge(encoder))}
    )
    print(f"near the border: {border}\nanswers per CPU second: {rates}")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: version(package) for package in ("numpy", "scipy", "scikit-learn", "torch", "transformers")}
    results = {judge: {part: asdict(a) for part, a in parts.items()} for judge, parts in found.items()}
    line = {"benchmark": "refusal_judge", "machine": machine, "versions": versions, "agreement": results, "border": border}
    print(json.dumps({**line, "answers_per_cpu_second": rates}))


if __name__ == "__main__":
    main()
