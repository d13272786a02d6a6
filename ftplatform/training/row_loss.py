"""How hard each row is for a model: the mean loss of what it would be trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.training.batches import NO_LOSS, collate
from ftplatform.training.encode import encode_rows
from ftplatform.training.environment import resolve_precision
from ftplatform.training.loading import load_base
from ftplatform.training.safetensors_guard import check_model_folder

#: Padded tokens per batch: logits of a vocabulary of 32,000 then take 0.5 GB.
_BATCH_TOKENS = 4096


def row_losses(
    rows: pa.Table,
    base: Path,
    *,
    max_tokens: int = 512,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Mean loss in nats of the trained tokens of each row under an untuned model; NaN for rows the trainer would leave out.

    Args:
        rows: table with `row_id` (each once) and `messages`.
        base: folder of the model.
        max_tokens: longer rows are cut as in training.
        progress: called with (rows done, rows).

    Returns:
        float64, shape (rows,).

    Raises:
        TrainingError: as `encode_rows`.
        UnsafeModel: the model may run code or is malformed.
    """
    import torch
    from torch.nn import functional as functional

    losses = np.full(rows.num_rows, np.nan)
    if not rows.num_rows:
        return losses
    check_model_folder(base)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model, tokenizer = load_base(base, device="cpu", precision=resolve_precision("fp32", "cpu"))
        model.eval()
        encoded = encode_rows(rows, tokenizer, max_tokens=max_tokens)
        at = {row: position for position, row in enumerate(rows.column("row_id").to_pylist())}
        lengths = np.array([len(e.tokens) for e in encoded.examples])
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        order, done = np.argsort(-lengths, kind="stable"), 0  # the first of a batch is its longest
        with torch.inference_mode():
            while done < len(order):
                size = max(1, _BATCH_TOKENS // int(lengths[order[done]]))
                batch = order[done : done + size]
                tokens, labels, mask = (torch.from_numpy(a) for a in collate([encoded.examples[i] for i in batch], pad))
                logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
                targets = labels[:, 1:]
                per_token = functional.cross_entropy(
                    logits[:, :-1].transpose(1, 2).float(), targets, reduction="none", ignore_index=NO_LOSS
                )
                trained = (targets != NO_LOSS).sum(dim=1)
                means = (per_token.sum(dim=1, dtype=torch.float64) / trained).numpy()  # 0 / 0 is NaN: nothing to learn
                losses[[at[encoded.row_ids[i]] for i in batch]] = means
                done += len(batch)
                if progress is not None:
                    progress(done, len(order))
    finally:
        torch.set_num_threads(before)
    return losses
