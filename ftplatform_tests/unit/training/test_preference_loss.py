"""The DPO loss against trl's on the same batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftplatform.training.preference.loss import answer_log_probabilities, dpo_loss
from ftplatform.training.preference.pairs import encode_pairs
from ftplatform_tests.unit.training.test_preference import pair_table, polite


def test_it_is_trls_loss(base_model: Path, tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    rows = pair_table(polite(range(8)))
    said = [
        {
            "prompt": [{"role": m["role"], "content": m["content"]} for m in row["prompt"]],
            **{side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")},
        }
        for row in rows.to_pylist()
    ]
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(tmp_path), beta=0.3, bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none",
            per_device_train_batch_size=8, disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(said),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules="all-linear"),
    )  # fmt: skip
    model: Any = trainer.model
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.normal_(std=0.1, generator=generator)
    (batch,) = trainer.get_train_dataloader()
    theirs = float(trainer.compute_loss(model, batch).detach())

    pairs = encode_pairs(rows, tokenizer, max_tokens=128)
    with torch.no_grad():
        policy = answer_log_probabilities(model, pairs.chosen, pairs.rejected, pad_token=0)
        with model.disable_adapter():
            reference = answer_log_probabilities(model, pairs.chosen, pairs.rejected, pad_token=0)
    ours = float(dpo_loss(policy, reference, 0.3).losses.mean())
    assert abs(theirs - 0.6931) > 0.01, "the adapter is to have moved"
    assert ours == pytest.approx(theirs, abs=1e-5)
    # Not a loss that any convention gives: without the reference, or with the sides exchanged, it is another.
    assert float(dpo_loss(policy, torch.zeros_like(policy), 0.3).losses.mean()) != pytest.approx(theirs, abs=1e-3)
    assert float(dpo_loss(policy.flip(0), reference.flip(0), 0.3).losses.mean()) != pytest.approx(theirs, abs=1e-3)
