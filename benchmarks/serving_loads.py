"""How long an adapter takes to its first token: `python -m benchmarks.serving_loads [--rounds 10] [--data ../shared/data]`.

Measured are LoRA adapters (rank 16, all linear modules, random weights: loading does not depend on what was learned) on the tiny base
model of the example, one thread each: a cold process, a cold adapter on a warm base, a hot swap, and adapters beside each other. With
the folder of real data the published load times of whole models stand beside them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ftplatform.serving.load_times import cold_penalty, measure_loads

_ROOT = Path(__file__).resolve().parents[1]


def make_adapters(base: Path, folder: Path, count: int) -> list[Path]:
    """So many adapters of one rank and the same modules, which is what hot swapping needs."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, use_safetensors=True)
        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
        made.append(folder / f"adapter-{seed}")
        get_peft_model(model, config).save_pretrained(made[-1], safe_serialization=True)
    return made


def published(data: Path) -> Iterator[dict[str, Any]]:
    """Load times of whole models as ServerlessLLM measured them, by file; seconds."""
    for path in sorted((data / "serverlessllm_loads").glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            seconds = [entry["loading_time"] for entry in json.load(file)]
        name = path.name.removesuffix(".json.gz")
        yield {
            "what": name,
            "n": len(seconds),
            "median_s": statistics.median(seconds),
            "low_s": min(seconds),
            "high_s": max(seconds),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", "--rows", type=int, default=10)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--adapters", type=int, default=8, help="held beside each other")
    parser.add_argument("--base", type=Path, default=_ROOT / "examples" / "support" / "base_model")
    parser.add_argument("--data", type=Path, help="folder of real data with published load times")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_adapters(options.base, Path(folder), options.adapters)
        size = sum(file.stat().st_size for file in adapters[0].iterdir())
        loads = measure_loads(options.base, adapters, rounds=options.rounds, processes=options.processes)
    ours = [load.to_record() for load in loads]
    others = list(published(options.data)) if options.data else []
    for line in (*ours, *others):
        print(f"{line['what']:72} n {line['n']:3}  median {line['median_s']:8.3f} s  {line['low_s']:.3f} to {line['high_s']:.3f}")
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    record = {
        "benchmark": "serving_loads",
        "machine": machine,
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
        "adapter_bytes": size,
        "adapters": options.adapters,
        "cold_penalty_s": cold_penalty(loads),
        "ours": ours,
        "published": others,
    }
    print(json.dumps(record), file=sys.stdout)


if __name__ == "__main__":
    main()
