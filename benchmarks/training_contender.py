"""One contender of `benchmarks.training` in a process of its own: load model and rows, then measure the training alone.

`python training_contender.py CONTENDER MODEL ROWS STEPS BATCH DEVICE` prints one JSON line. MODEL is a folder, ROWS an .npz file with
encoded rows (`tokens`, `labels`, where each row ends in `ends`; the last `held_out` rows are not trained on). But for ours it stands alone:
the peers may live in an interpreter that does not know ftplatform. All train the same LoRA from the same initial weights with the same
optimizer settings on the same tokens; what differs is what each trainer does by itself, or when told to be quick.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

RANK, ALPHA, LEARNING_RATE, SEED, MAX_TOKENS = 16, 32, 1e-3, 0, 1024
NO_LOSS = -100

Rows = list[tuple[np.ndarray, np.ndarray]]
#: Trains when called and returns the loss of each step, as far as the trainer tells; with the model it trained.
Run = tuple[Any, Callable[[], list[float]]]


def ours(folder: str, rows: Rows, steps: int, batch: int, device: str) -> Run:
    from pathlib import Path

    from ftplatform.training.batches import Example
    from ftplatform.training.environment import resolve_precision
    from ftplatform.training.loading import load_base
    from ftplatform.training.loop import Optimization, fit
    from ftplatform.training.lora import LoraSettings, add_adapter

    precision = resolve_precision("auto", "cuda" if device == "cuda" else "cpu")
    model, _ = load_base(Path(folder), device=device, precision=precision)
    adapted = add_adapter(model, LoraSettings(rank=RANK, alpha=ALPHA), base_name="base", seed=SEED)
    optimization = Optimization(steps=steps, batch_size=batch, learning_rate=LEARNING_RATE, seed=SEED)
    examples = [Example(tokens, labels) for tokens, labels in rows]
    pack_to = MAX_TOKENS if device == "cuda" else None
    return adapted, lambda: fit(adapted, examples, optimization, pad_token=0, bf16=precision == "bf16", pack_to=pack_to)


def _common(steps: int, batch: int, device: str) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(prefix="training-benchmark-"),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": SEED,
        "use_cpu": device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _dataset(rows: Rows) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [t.tolist() for t, _ in rows], "labels": [y.tolist() for _, y in rows]})


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def _losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trl(folder: str, rows: Rows, steps: int, batch: int, device: str, **settings: Any) -> Run:
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    trainer = SFTTrainer(
        folder,
        args=SFTConfig(**_common(steps, batch, device), **settings),
        train_dataset=_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=_lora(),
    )
    return trainer.model, lambda: _losses(trainer)


def trl_tuned(folder: str, rows: Rows, steps: int, batch: int, device: str) -> Run:
    if device == "cuda":
        return trl(folder, rows, steps, batch, device, gradient_checkpointing=False, packing=True, max_length=MAX_TOKENS)
    eager = {"attn_implementation": "eager"}
    quick: dict[str, Any] = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    return trl(folder, rows, steps, batch, device, model_init_kwargs=eager, **quick)


def transformers_trainer(folder: str, rows: Rows, steps: int, batch: int, device: str) -> Run:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    attention = "eager" if device == "cpu" else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    torch.manual_seed(SEED)
    trainer = Trainer(
        get_peft_model(model, _lora()),
        args=TrainingArguments(**_common(steps, batch, device), bf16=True, logging_steps=10),
        train_dataset=_dataset(rows),
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(folder)),
    )
    return trainer.model, lambda: _losses(trainer)


CONTENDERS: dict[str, Callable[[str, Rows, int, int, str], Run]] = {
    "ours": ours,
    "trl defaults": trl,
    "trl tuned": trl_tuned,
    "transformers": transformers_trainer,
}


def held_out_loss(model: Any, rows: Rows) -> float:
    """Mean loss per trained token in fp32, row by row: what every contender's model is judged by."""
    import torch
    from torch.nn import functional as functional

    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for tokens, labels in rows:
            logits = model(input_ids=torch.from_numpy(tokens)[None].to(model.device), use_cache=False).logits
            targets = torch.from_numpy(labels)[1:].to(model.device)
            total += float(functional.cross_entropy(logits[0, :-1].float(), targets, reduction="sum", ignore_index=NO_LOSS))
            count += int((targets != NO_LOSS).sum())
    return total / count


def main() -> None:
    contender, folder, file = sys.argv[1:4]
    steps, batch, device = int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
    import torch

    # One thread each: CPU seconds then count work, not threads waiting for each other.
    torch.set_num_threads(1)
    with np.load(file) as arrays:
        cuts = arrays["ends"][:-1]
        every = list(zip(np.split(arrays["tokens"], cuts), np.split(arrays["labels"], cuts), strict=True))
        rows, held_out = every[: -int(arrays["held_out"])], every[-int(arrays["held_out"]) :]
    model, run = CONTENDERS[contender](folder, rows, steps, batch, device)
    _synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    losses = run()
    _synchronize(device)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    state = hashlib.sha256()
    for parameter in (p for p in model.parameters() if p.requires_grad):
        state.update(parameter.detach().float().cpu().numpy().tobytes())
    result = {
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mib": peak,
        "losses": losses,
        "held_out_loss": held_out_loss(model.float(), held_out),
        "adapter_sha256": state.hexdigest(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result))


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
