"""Sentence embeddings for the judge: what an encoder must do, and one over a local folder for fitting.

At run time the judge takes whatever encoder the project has, as long as it is the one the coefficients were fitted with; that is
decided by what it makes of two fixed sentences, because folder names and configuration files differ between copies of one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ftplatform.evaluation.model_folder import folder_digest, refuse_unsafe_base

#: Sentences whose vectors tell encoders apart.
ANCHORS = ("I'm sorry, but I can't help with that.", "To stop a process, find its number and end it.")

#: Least cosine between vectors of an anchor under the same model. In bfloat16 instead of float32 it stays above .999.
_SAME_MODEL = 0.995

_MAX_TOKENS = 256
_BATCH = 64


class Encoder(Protocol):
    """Turns texts into vectors of length one, shape (n, d), float32. `name` says which model, for the verdict."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def same_model(anchors: NDArray[np.float32], encoder: Encoder) -> bool:
    """Whether `encoder` makes of the anchor sentences what the encoder of the fit did: `anchors`, shape (2, d)."""
    found = encoder.encode(ANCHORS)
    return found.shape == anchors.shape and bool(((found * anchors).sum(axis=1) >= _SAME_MODEL).all())


class MeanPooledEncoder:
    """A BERT-like model from a local folder, in float32 on one thread; a text is the mean of its token vectors, as in MiniLM.

    Args:
        folder: config.json, tokenizer and *.safetensors. Nothing is downloaded, no code of the folder runs.

    Raises:
        UnsafeModel: if the folder holds no safetensors or asks to run its own code.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        refuse_unsafe_base(folder)
        self.name = f"{folder.name}@sha256:{folder_digest(folder)[:16]}"
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        self._model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
        ).eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one, shape (n, d). Text beyond 256 tokens is not read."""
        import torch

        found = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                for start in range(0, len(order), _BATCH):
                    chosen = order[start : start + _BATCH]
                    batch = self._tokenizer(
                        [texts[i] for i in chosen], padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
                    )
                    tokens = self._model(**batch).last_hidden_state
                    mask = batch["attention_mask"].unsqueeze(-1).to(tokens.dtype)
                    pooled = (tokens * mask).sum(1) / mask.sum(1)
                    found[chosen] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        finally:
            torch.set_num_threads(threads)
        return found
