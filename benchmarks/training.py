"""LoRA tokens per CPU second: `python -m benchmarks.training [--model tiny|10m] [--rounds 3] [--peers-python PATH] [--device cpu|cuda]`.

Contenders, each a process of its own, in turn: our loop, trl's SFTTrainer as it comes (bf16, gradient checkpointing, fused attention, rows
in random order), trl told to be quick (on a CPU eager attention, no gradient checkpointing, rows grouped by length; on a GPU packing and no
gradient checkpointing), and transformers' Trainer (bf16, eager attention on a CPU). Loading and tokenizing are before the clock.
Whole epochs are trained, so all see the same real tokens; padding counts for nothing. Quality is the loss on held-out rows in fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import report
from benchmarks.training_contender import CONTENDERS
from ftplatform.rows.schema import MESSAGE_TYPE

_CONTENDER = Path(__file__).with_name("training_contender.py")
_EXAMPLE = Path(__file__).parents[1] / "examples" / "support"
_OURS = "ours"
_PEERS = ("torch", "transformers", "peft", "accelerate", "trl", "datasets")

#: Shapes made from a configuration with random weights; `tiny` is the bundled model as it is. `1b` is Llama 3.2 1B's, for a GPU.
SHAPES: dict[str, dict[str, Any]] = {
    "10m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 6},
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
}  # fmt: skip

Measured = dict[str, list[dict[str, Any]]]


def model_folder(name: str, folder: Path) -> Path:
    """The bundled base model, or one of a shape in `SHAPES` with its tokenizer, written to `folder`."""
    bundled = _EXAMPLE / "base_model"
    if name == "tiny":
        return bundled
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bundled)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, **SHAPES[name]
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file: Path, model: Path, rows: int, held_out: int) -> int:
    """Encodes the bundled project's transcripts into `file`; returns the real tokens of the `rows` to train on."""
    from transformers import AutoTokenizer

    from ftplatform.training.encode import encode_rows

    said = []
    with (_EXAMPLE / "data" / "transcripts.jsonl").open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(rows + held_out), strict=False):
            turns = json.loads(line)["messages"]
            said.append([{"role": t["role"], "content": t["content"], "trainable": t["role"] == "assistant"} for t in turns])
    if len(said) < rows + held_out:
        raise SystemExit(f"the bundled transcripts have {len(said)} rows; lower --rows")
    table = pa.table({"row_id": [str(i) for i in range(len(said))], "messages": pa.array(said, pa.list_(MESSAGE_TYPE))})
    encoded = encode_rows(table, AutoTokenizer.from_pretrained(model), max_tokens=1024)
    if encoded.left_out or encoded.cut:
        raise SystemExit("rows were cut or left out: contenders would see different tokens")
    lengths = [len(e.tokens) for e in encoded.examples]
    np.savez(
        file,
        tokens=np.concatenate([e.tokens for e in encoded.examples]),
        labels=np.concatenate([e.labels for e in encoded.examples]),
        ends=np.cumsum(lengths),
        held_out=held_out,
    )
    return sum(lengths[:rows])


def run(python: str, contender: str, arguments: Sequence[str]) -> dict[str, Any]:
    """One process of a contender."""
    # Ours is imported from this checkout: -m puts its root, the working folder, on the path.
    script = ["-m", "benchmarks.training_contender"] if contender == _OURS else [str(_CONTENDER)]
    command = [sys.executable if contender == _OURS else python, *script, contender, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_CONTENDER.parent.parent)
    if done.returncode:
        raise SystemExit(f"{contender} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def versions(python: str) -> dict[str, str]:
    """Versions of the peers as their interpreter tells them."""
    code = f"import json, importlib.metadata as m; print(json.dumps({{p: m.version(p) for p in {_PEERS!r}}}))"
    return json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)


def quality(measured: Measured, tolerance: float) -> dict[str, Any]:
    """Held-out loss of every contender, its distance from ours, and whether all rounds ended in the same bits."""
    reference = measured[_OURS][0]["held_out_loss"]
    return {
        name: {
            "held_out_loss": round(runs[0]["held_out_loss"], 4),
            "within_tolerance": abs(runs[0]["held_out_loss"] / reference - 1) <= tolerance,
            "rounds_end_in_the_same_bits": len({r["adapter_sha256"] for r in runs}) == 1 if len(runs) > 1 else None,
            "losses": [round(loss, 3) for loss in _every_tenth(runs[0]["losses"], name)],
        }
        for name, runs in measured.items()
    }


def _every_tenth(losses: Sequence[float], contender: str) -> list[float]:
    """Means of ten steps each, as the peers log them."""
    if contender != _OURS:
        return list(losses)
    return [statistics.fmean(losses[i : i + 10]) for i in range(0, len(losses) - 9, 10)]


def speeds(measured: Measured, tokens: int, figure: str) -> Mapping[str, dict[str, float]]:
    """Real tokens per second of CPU (or wall, on a GPU): median and range over the rounds."""
    each = {name: [tokens / r[figure] for r in runs] for name, runs in measured.items()}
    return {n: {"min": round(min(v)), "median": round(statistics.median(v)), "max": round(max(v))} for n, v in each.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("tiny", *SHAPES), default="tiny")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tolerance", type=float, default=0.05, help="relative difference of held-out losses")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has trl, transformers and peft")
    parser.add_argument("--only", nargs="*", default=None, help="peers to run; ours always runs")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the last line is always JSON")
    options = parser.parse_args()
    if options.rows % options.batch:
        raise SystemExit("--rows must be a multiple of --batch, so that an epoch is whole steps")
    contenders = [name for name in CONTENDERS if name == _OURS or options.only is None or name in options.only]
    steps = options.epochs * options.rows // options.batch
    with tempfile.TemporaryDirectory() as scratch:
        model = model_folder(options.model, Path(scratch) / "model")
        rows = Path(scratch) / "rows.npz"
        tokens = options.epochs * write_rows(rows, model, options.rows, options.held_out)
        arguments = [str(model), str(rows), str(steps), str(options.batch), options.device]
        measured: Measured = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name in contenders:
                measured[name].append(run(options.peers_python, name, arguments))
    figure = "cpu_s" if options.device == "cpu" else "wall_s"
    facts = {
        "model": options.model,
        "device": options.device,
        "rows": options.rows,
        "steps": steps,
        "tokens": tokens,
        "tokens_per_second": speeds(measured, tokens, figure),
        "quality": quality(measured, options.tolerance),
        "load": [round(r["load"], 1) for r in measured[_OURS]],
        "peers": versions(options.peers_python),
    }
    for name, found in facts["quality"].items():
        print(f"{name:32} {facts['tokens_per_second'][name]['median']:7} tokens/s   held-out loss {found['held_out_loss']}")
    report("training", measured, _OURS, ("ftplatform", "torch", "transformers", "peft"), facts)
    if bad := [name for name, found in facts["quality"].items() if not found["within_tolerance"]]:
        raise SystemExit(f"the held-out loss of {', '.join(bad)} is not within {options.tolerance:.0%} of ours: no fair comparison")


if __name__ == "__main__":
    main()
