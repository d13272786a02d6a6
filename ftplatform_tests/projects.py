"""Small projects that tests write, run and change: every stage is there, each in seconds."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ftplatform.defs.plan import Plan
from ftplatform.project.loading import load_project
from ftplatform_tests.s3 import BUCKET

REPOSITORY = Path(__file__).resolve().parents[1]
BASE_MODEL = REPOSITORY / "examples" / "support" / "base_model"

#: Checks that a project without probes cannot pass.
NEED_PROBES = ("refusal_retention", "overrefusal_retention", "helpfulness_retention")

_ITEMS = (
    "router",
    "modem",
    "phone",
    "tablet",
    "charger",
    "headset",
    "sensor",
    "camera",
    "speaker",
    "monitor",
    "printer",
    "keyboard",
)
_ASKS = (
    "where is my {}",
    "my {} is broken",
    "can i return the {}",
    "how long is the warranty on the {}",
    "the {} does not turn on",
)


def write_jsonl(path: Path, records: list[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def dialogues(count: int, seed: int) -> list[dict[str, Any]]:
    """Distinct two-turn support dialogues, each of its own customer."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        item, ask = rng.choice(_ITEMS), rng.choice(_ASKS)
        number = seed * 100_000 + i
        user = f"{ask.format(item)}, order {number} from {rng.choice(['monday', 'friday', 'last week', 'yesterday'])}"
        answer = f"Thanks for writing about order {number}. The {item} can be looked at {rng.choice(['today', 'tomorrow', 'this week'])}."
        found.append(
            {
                "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}],
                "group": f"customer-{number}",
                "slices": [item],
            }
        )
    return found


def small_project(root: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Write a project with two sources, an eval set and two adapters; returns its file.

    Args:
        change: edits the parsed project before it is written.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_jsonl(root / "data" / "tickets.jsonl", dialogues(120, seed=1))
    write_jsonl(root / "data" / "chats.jsonl", dialogues(60, seed=2))
    write_jsonl(
        root / "data" / "questions.jsonl",
        [
            {"prompt": d["messages"][0]["content"], "completion": "by " + d["slices"][0], "group": d["group"]}
            for d in dialogues(40, seed=3)
        ],
    )
    (root / "LICENSE.txt").write_text("SPDX-License-Identifier: MIT\n")
    license_ = {"declared": "MIT", "concluded": "MIT", "evidence": "LICENSE.txt", "concluded_by": "counsel"}
    training = {"steps": 2, "batch_size": 4, "learning_rate": 0.001, "lora": {"rank": 2}, "precision": "fp32"}
    project: dict[str, Any] = {
        "name": "small",
        "use": ["train", "evaluate", "commercial_model"],
        "sources": {
            "tickets": {"path": "data/tickets.jsonl", "license": dict(license_)},
            "chats": {"path": "data/chats.jsonl", "license": dict(license_)},
        },
        "datasets": {"one": {"sources": ["tickets"]}, "two": {"sources": ["chats"]}},
        "eval_sets": {
            "questions": {"path": "data/questions.jsonl", "metric": "token_f1", "license": dict(license_), "max_new_tokens": 4}
        },
        "base_models": {"base": {"path": "base_model", "license": dict(license_)}},
        "adapters": {
            "first": {"base": "base", "dataset": "one", "training": training},
            "second": {"base": "base", "dataset": "two", "training": training},
        },
    }
    if change is not None:
        change(project)
    shutil.copytree(BASE_MODEL, root / "base_model", dirs_exist_ok=True)
    return save(root, project)


def on_faulty_s3(project: dict[str, Any], url: str, prefix: str) -> None:
    """Move a project's store to the test bucket behind `url`."""
    project["store"] = f"s3://{BUCKET}/{prefix}"
    project["store_options"] = {"endpoint_url": url, "region": "us-east-1", "deadline": "30"}


def save(root: Path, project: Mapping[str, Any]) -> Path:
    """Write the project file."""
    file = root / "ftplatform.yaml"
    file.write_text(yaml.safe_dump(project, sort_keys=False))
    return file


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> Plan:
    """Change a written project and load it again."""
    project = yaml.safe_load(file.read_text())
    change(project)
    save(file.parent, project)
    return plan_of(file)


def plan_of(file: Path) -> Plan:
    """The plan of a project file."""
    return Plan(load_project(file))
