"""A project file that is right, for tests that make it wrong in one place."""

from __future__ import annotations

from pathlib import Path

VALID = """\
name: support
use: [train, evaluate, commercial_model]
store: .ftplatform/store
sources:
  tickets:
    path: data/tickets.jsonl
    license: {concluded: MIT, evidence: LICENSES/MIT.txt}
    owner: team:data
  refusals:
    path: data/refusals.jsonl
    license: CC0-1.0
  production:
    path: [data/production-*.jsonl.gz]
    surface: production
synthetic:
  paraphrases:
    path: data/paraphrases.jsonl
    teacher: {id: template-1, license: MIT}
    seeds: [tickets]
    production_inputs: production
feedback:
  thumbs: {path: data/feedback.jsonl}
datasets:
  support:
    sources: [tickets]
    synthetic: [paraphrases]
    feedback: [thumbs]
    production_inputs: production
    slices:
      billing: {tag: billing}
      refunds: {regex: "(?i)refund", must_keep: yes}
    reserve: {fraction: 0.1, seed: 7}
    dedup: {threshold: 0.8}
rubrics:
  helpful:
    purpose: eval
    author: ana@example.com
    judge: rules
    criteria:
      - {id: answers, text: "Does it answer?", rule: {kind: reference}}
eval_sets:
  task: {path: eval/task.jsonl, rubric: helpful}
  probes: {path: eval/probes.jsonl, kind: refusal_probes, vault: true}
base_models:
  tiny:
    path: models/tiny
    license: {declared: apache-2.0, concluded: Apache-2.0, evidence: LICENSES/Apache-2.0.txt}
adapters:
  support:
    base: tiny
    dataset: support
    safety_mix: {source: refusals, share: 0.1}
    evals: [task, probes]
    training:
      steps: 20
      learning_rate: 1e-3
      lora: {rank: 8, target_modules: [q_proj, v_proj]}
rewards:
  ledger: {path: rewards.parquet, adapter: support}
endpoints:
  chat: {path: logs/chat.csv, adapter: support}
gates:
  task_regression: {threshold: 0.02, severity: error}
schedules: {nightly: "30 2 * * *", timezone: Europe/Paris}
alerts: {webhook_env: ALERT_WEBHOOK}
"""


def changed(old: str, new: str) -> str:
    """`VALID` with one place replaced; fails if there is not exactly one."""
    assert VALID.count(old) == 1, f"{old!r} occurs {VALID.count(old)} times"
    return VALID.replace(old, new)


def line_with(text: str, part: str) -> int:
    """Number of the only line of `text` that holds `part`."""
    (line,) = [number for number, content in enumerate(text.splitlines(), start=1) if part in content]
    return line


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ftplatform.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_files(folder: Path) -> None:
    """Everything `VALID` points to."""
    for name in (
        "data/tickets.jsonl",
        "data/refusals.jsonl",
        "data/production-2026.jsonl.gz",
        "data/paraphrases.jsonl",
        "data/feedback.jsonl",
        "eval/task.jsonl",
        "eval/probes.jsonl",
        "LICENSES/MIT.txt",
        "LICENSES/Apache-2.0.txt",
        "models/tiny/tokenizer.json",
        "models/tiny/model.safetensors",
        "rewards.parquet",
        "logs/chat.csv",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content\n")
    (folder / "models/tiny/config.json").write_text('{"model_type": "gpt_neox"}')
