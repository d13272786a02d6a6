"""Texts as vectors: what the base model makes of them, or, without a model, which character sequences they consist of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.evaluation.model_folder import refuse_unsafe_base

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: From n texts to vectors of length one (or zero), shape (n, dimensions); dense or sparse.
Represent = Callable[[Sequence[str]], "NDArray[np.float32] | csr_matrix"]

MODEL_TIER, TEXT_TIER = "base representation", "character TF-IDF"

#: Tokens per padded batch; a hidden state of 4,096 dimensions in fp32 then takes 128 MiB.
_BATCH_TOKENS = 8192


def base_representation(
    folder: Path,
    *,
    device: str = "auto",
    threads: int = 1,
    max_tokens: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Represent:
    """What a model makes of a request: its last hidden layer where the answer would begin, scaled to length one.

    There the decision to decline lies. The mean over the request's own tokens says what it is about and how it is worded: on the
    bundled base it puts 3 to 8 % of planted harmful requests beyond all of 900 customers' messages, this puts nearly all.

    Args:
        folder: a base model in safetensors; loaded here, once.
        device: ``"auto"`` is CUDA if present. threads: on a CPU.
        max_tokens: of a text that are read.
        progress: called with (texts done, texts).

    Raises:
        UnsafeModel: if the folder holds no safetensors, or its configuration asks to run code.

    Sources: L. He et al. 2024, arXiv 2404.01099 (representation matching); A. Arditi et al. 2024, arXiv 2406.11717 (where it lies).
    """
    import torch

    refuse_unsafe_base(folder)
    place = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device)
    model, tokenizer = _load(folder, place)

    def represent(texts: Sequence[str]) -> NDArray[np.float32]:
        # A text that is too long loses its beginning: the end of the template has to stay.
        encoded = [tokenizer(said, add_special_tokens=False)["input_ids"][-max_tokens:] for said in _asked(tokenizer, texts)]
        lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        found = np.zeros((len(encoded), model.config.hidden_size), np.float32)
        order, done = np.argsort(-lengths, kind="stable"), 0  # the first of a batch is its longest
        order = order[lengths[order] > 0]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            while done < len(order):
                width = int(lengths[order[done]])
                batch = order[done : done + max(1, _BATCH_TOKENS // width)]
                found[batch] = _last_hidden(model, [encoded[i] for i in batch.tolist()], width)
                done += len(batch)
                if progress is not None:
                    progress(done, len(order))
        finally:
            torch.set_num_threads(before)
        lengths_of = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(lengths_of, np.finfo(np.float32).tiny)

    return represent


def _load(folder: Path, place: Any) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32 if place.type == "cpu" else "auto",
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    return model.to(place).eval(), tokenizer


def _asked(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """The texts as a user's message, up to where the answer begins; as they are for a model without a chat template."""
    if tokenizer.chat_template is None:
        return list(texts)
    conversations = [[{"role": "user", "content": text}] for text in texts]
    return tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True) if conversations else []


def _last_hidden(model: Any, encoded: Sequence[Sequence[int]], width: int) -> NDArray[np.float32]:
    """Padded on the right: with causal attention nothing that is read sees the padding."""
    import torch

    ids = torch.zeros((len(encoded), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    last = mask.sum(1) - 1
    with torch.inference_mode():
        hidden = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).last_hidden_state
        return hidden[torch.arange(len(encoded)), last.to(model.device)].float().cpu().numpy()


def character_tfidf(background: Sequence[str]) -> Represent:
    """TF-IDF over sequences of three to five characters inside words; typing errors change few of them.

    Args:
        background: texts from which it is learned how common each sequence is, at least one with a word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=1)
    vectorizer.fit(background)
    return lambda texts: vectorizer.transform(texts)  # pyright: ignore[reportReturnType]  (the stub says spmatrix)
