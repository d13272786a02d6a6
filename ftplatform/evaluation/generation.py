"""Generating and scoring text with a base model and, over the same weights, an adapter.

One copy of the base weights stays in memory; the adapter is switched on and off, so base and tuned model answer the same prompts
under the same decoding. Same inputs, same machine: same answers. Batches are ordered by length (little padding), padded on the
left, and stop at the end-of-sequence token. Sampling draws from a stream that belongs to the prompt, not to its place in a batch.

Nothing here reaches a network or runs code from a model folder: local files only, safetensors only, no `trust_remote_code`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftplatform.canonical import digest
from ftplatform.errors import EvaluationError
from ftplatform.evaluation.decoding import Decoding, sampler, token_probabilities
from ftplatform.evaluation.model_folder import folder_digest, open_model

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: A conversation up to the turn to be answered.
Conversation = Sequence[Mapping[str, Any]]

#: Called with (answered, all) after every batch.
Progress = Callable[[int, int], None]

#: Raise it when the same model, text and decoding would give another answer than before.
GENERATION_VERSION = "1"
_NUMERICS = ("torch", "transformers", "peft")

__all__ = ["Conversation", "Decoding", "Generator", "LogProbs", "Progress", "folder_digest"]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Teacher-forced log-probabilities (nats) of n completions: `total`, `mean` per token, number of `tokens`; shape (n,).

    `greedy` says whether greedy decoding would have said the same, token by token.
    """

    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    tokens: NDArray[np.int64]
    greedy: NDArray[np.bool_]


class Generator:
    """A causal language model, optionally with an adapter, ready to answer."""

    def __init__(
        self, model: Any, tokenizer: Any, *, has_adapter: bool, digests: Mapping[str, str | None], batch_size: int, threads: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._threads = threads
        self.has_adapter = has_adapter
        self.base_digest = str(digests["base"])
        self.adapter_digest = digests["adapter"]

    @classmethod
    def load(
        cls,
        base: Path | str,
        adapter: Path | str | None = None,
        *,
        device: str = "auto",
        batch_size: int = 64,
        threads: int = 1,
    ) -> Generator:
        """Loads a base model folder and, if given, a LoRA adapter folder over it.

        Args:
            base: folder with config.json, tokenizer files (with a chat template) and *.safetensors.
            adapter: folder with adapter_config.json and adapter_model.safetensors.
            device: ``"auto"`` (CUDA if present), ``"cpu"``, ``"cuda"``. On CPU the model computes in float32, on CUDA as stored.
            batch_size: prompts per batch. threads: CPU threads; one is as fast as two here and does not fight with neighbors.

        Raises:
            UnsafeModel: if a folder holds no safetensors, or its configuration asks to run code.
            EvaluationError: if the tokenizer has no chat template.
        """
        base, adapter = Path(base), Path(adapter) if adapter is not None else None
        model, tokenizer = open_model(base, adapter, device)
        digests = {"base": folder_digest(base), "adapter": None if adapter is None else folder_digest(adapter)}
        return cls(model, tokenizer, has_adapter=adapter is not None, digests=digests, batch_size=batch_size, threads=threads)

    @property
    def vocabulary_size(self) -> int:
        """Number of entries of the tokenizer."""
        return len(self._tokenizer)

    @property
    def context(self) -> int | None:
        """Tokens the model reads at most; None if it has no limit."""
        return getattr(self._model.config, "max_position_embeddings", None)

    @property
    def stop_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        configured = self._model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return sorted({token for token in [*listed, self._tokenizer.eos_token_id] if token is not None})

    def model_digest(self, *, adapter: bool) -> str:
        """SHA-256 of all that an answer depends on besides prompt and decoding: weights, precision, kind of device, library versions."""
        return digest(
            {
                "base": self.base_digest,
                "adapter": self.adapter_digest if adapter else None,
                "precision": str(self._model.dtype),
                "device": self._model.device.type,
                "packages": {name: version(name) for name in _NUMERICS},
                "version": GENERATION_VERSION,
            }
        )

    def render(
        self, conversations: Sequence[Conversation], system_prompt: str | None = None, *, continue_final: bool = False
    ) -> list[str]:
        """The text the model reads for each conversation, up to where its answer starts, or with `continue_final` goes on.

        A production `system_prompt` goes in front of a conversation's own system message, which is kept below it.
        """
        return [
            self._tokenizer.apply_chat_template(
                _with_system_prompt(c, system_prompt),
                tokenize=False,
                add_generation_prompt=not continue_final,
                continue_final_message=continue_final,
            )
            for c in conversations
        ]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text as it is: the chat template has written the special tokens already."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(
        self,
        conversations: Sequence[Conversation],
        decoding: Decoding | None = None,
        *,
        adapter: bool = False,
        system_prompt: str | None = None,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Answers, in the order of `conversations`.

        Args:
            conversations: messages up to the turn to be answered; roles and contents as in rows.
            decoding: default greedy, 48 tokens.
            adapter: answer with the adapter; without it the base model answers.
            system_prompt: the production system prompt, if the answer is wanted under it.
            seeds: one for each conversation, in place of `decoding.seed`: several draws of the same prompt in one call.

        Raises:
            EvaluationError: if a prompt and its answer do not fit into the model's context, or there is no adapter to switch on.
        """
        read = [self.encode(text) for text in self.render(conversations, system_prompt)]
        return [text.strip() for text in self.complete(read, decoding, adapter=adapter, seeds=seeds, progress=progress)]

    def complete(
        self,
        read: Sequence[list[int]],
        decoding: Decoding | None = None,
        *,
        adapter: bool = False,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """What the model writes after each token sequence, spaces at the ends included. Arguments and errors as `generate`."""
        import torch
        from transformers import LogitsProcessorList

        decoding = decoding or Decoding()
        seeds = [decoding.seed] * len(read) if seeds is None else seeds
        if len(seeds) != len(read):
            raise ValueError(f"{len(read)} prompts and {len(seeds)} seeds; give one seed for each prompt")
        self._check_context([len(ids) for ids in read], decoding.max_new_tokens)
        answers = [""] * len(read)
        stops = self.stop_tokens
        done = 0
        with self._compute(adapter):
            for batch in self._batches([len(ids) for ids in read]):
                ids, mask = self._pad([read[i] for i in batch])
                processors = LogitsProcessorList()
                if decoding.temperature > 0:
                    streams = [(seeds[i], read[i]) for i in batch]
                    processors.append(sampler(decoding, streams, self._model.device, ids.shape[1]))
                # The processor samples and leaves one token possible; so the search itself is greedy and needs no global seed.
                output = self._model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=decoding.max_new_tokens,
                    do_sample=False,
                    num_beams=1,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    logits_processor=processors,
                    eos_token_id=stops,
                    pad_token_id=self._tokenizer.pad_token_id,
                )
                for i, tokens in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
                    answers[i] = self._tokenizer.decode(_until(tokens, stops), skip_special_tokens=True)
                done += len(batch)
                if progress is not None:
                    progress(done, len(read))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return answers

    def teacher_forced_logprob(
        self,
        conversations: Sequence[Conversation],
        completions: Sequence[str],
        *,
        adapter: bool = False,
        system_prompt: str | None = None,
        progress: Progress | None = None,
    ) -> LogProbs:
        """Log-probability the model gives to a completion, token by token, when it is forced to say it.

        Args:
            conversations, completions: n of each. A completion is cut where the model's context ends; one without tokens gets
                total 0, mean NaN, tokens 0.

        Raises:
            ValueError: on unequal lengths. EvaluationError: if a conversation alone exceeds the context.
        """
        prompts = [self.encode(text) for text in self.render(conversations, system_prompt)]
        self._check_context([len(ids) for ids in prompts], 1)
        limit = self.context
        targets = [self.encode(c)[: limit - len(p) if limit else None] for p, c in zip(prompts, completions, strict=True)]
        return self.score_tokens(list(zip(prompts, targets, strict=True)), adapter=adapter, progress=progress)

    def score_tokens(
        self, pairs: Sequence[tuple[list[int], list[int]]], *, adapter: bool = False, progress: Progress | None = None
    ) -> LogProbs:
        """Teacher-forced log-probabilities of token sequences; each pair is (what is read, what is scored after it)."""
        import torch

        total = np.zeros(len(pairs))
        greedy = np.ones(len(pairs), dtype=np.bool_)
        tokens = np.array([len(t) for _, t in pairs], dtype=np.int64)
        done = 0
        with self._compute(adapter):
            for batch in self._batches([len(p) + len(t) for p, t in pairs]):
                ids, mask = self._pad([pairs[i][0] + pairs[i][1] for i in batch])
                longest = max(1, int(tokens[batch].max()))
                logits = self._logits(ids, mask, longest + 1)[:, :-1]
                targets_here = ids[:, -longest:]
                # log p = logit - logsumexp; avoids a second array of vocabulary size.
                chosen = logits.gather(-1, targets_here[..., None])[..., 0].float() - torch.logsumexp(logits.float(), -1)
                wanted = (
                    torch.arange(longest, 0, -1, device=ids.device)[None, :]
                    <= torch.as_tensor(tokens[batch], device=ids.device)[:, None]
                )
                total[batch] = torch.where(wanted, chosen, 0.0).double().sum(1).cpu().numpy()
                greedy[batch] = ((logits.argmax(-1) == targets_here) | ~wanted).all(1).cpu().numpy()
                done += len(batch)
                if progress is not None:
                    progress(done, len(pairs))
        with np.errstate(invalid="ignore", divide="ignore"):
            return LogProbs(total, np.where(tokens > 0, total / tokens, np.nan), tokens, greedy)

    def next_token_probabilities(
        self, read: Sequence[list[int]], tokens: Sequence[Sequence[int]], decoding: Decoding, *, adapter: bool = False
    ) -> NDArray[np.float64]:
        """Probability that the next token is one of those named, under `decoding` (greedy: zeros and ones).

        Args:
            read: n token sequences.
            tokens: the m tokens asked about after each.

        Returns:
            float64 array (n, m).
        """
        import torch

        self._check_context([len(ids) for ids in read], 1)
        columns = torch.tensor([list(asked) for asked in tokens], dtype=torch.long)
        result = np.zeros(columns.shape)
        with self._compute(adapter):
            for batch in self._batches([len(ids) for ids in read]):
                ids, mask = self._pad([read[i] for i in batch])
                probabilities = token_probabilities(self._logits(ids, mask, 1)[:, -1].float(), decoding)
                result[batch] = probabilities.gather(-1, columns[batch].to(probabilities.device)).cpu().numpy()
        return result

    def first_token_probabilities(
        self,
        conversations: Sequence[Conversation],
        starts: Sequence[str],
        *,
        adapter: bool = False,
        system_prompt: str | None = None,
    ) -> NDArray[np.float64]:
        """Probability that an answer begins with the first token of each text in `starts`, e.g. ``["I", "Sorry", "Sure"]``.

        Returns:
            float64 array (conversations, starts). Texts that share their first token share its probability.

        A cheap drift sensor, never a verdict: mid-erosion a model still starts with "I" and complies.
        """
        firsts = [self.encode(text)[:1] for text in starts]
        if not all(firsts):
            raise ValueError("every start needs at least one token")
        read = [self.encode(text) for text in self.render(conversations, system_prompt)]
        columns = [[ids[0] for ids in firsts]] * len(read)
        return self.next_token_probabilities(read, columns, Decoding(temperature=1.0), adapter=adapter)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        width = max(1, *(len(ids) for ids in sequences)) if sequences else 1
        ids = torch.full((len(sequences), width), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            if sequence:
                ids[row, -len(sequence) :] = torch.tensor(sequence)
                mask[row, -len(sequence) :] = 1
        return ids.to(self._model.device), mask.to(self._model.device)

    def _logits(self, ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
        # Positions count real tokens only, so that padding on the left does not shift them.
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return self._model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep).logits[
            :, -keep:
        ]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _check_context(self, lengths: Sequence[int], reserve: int) -> None:
        limit = self.context
        if limit is None or not lengths:
            return
        worst = max(range(len(lengths)), key=lambda i: lengths[i])
        if lengths[worst] + reserve > limit:
            raise EvaluationError(
                f"Conversation {worst} has {lengths[worst]} tokens and its answer up to {reserve}; the model reads {limit}.",
                remedy="Shorten the conversation or lower max_new_tokens.",
            )

    @contextmanager
    def _compute(self, adapter: bool) -> Iterator[None]:
        import torch

        if adapter and not self.has_adapter:
            raise EvaluationError("The tuned model was asked and no adapter is loaded.", remedy="Pass `adapter` to Generator.load.")
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                if self.has_adapter and not adapter:
                    with self._model.disable_adapter():
                        yield
                else:
                    yield
        finally:
            torch.set_num_threads(threads)


def _with_system_prompt(conversation: Conversation, system_prompt: str | None) -> list[dict[str, str]]:
    messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in conversation]
    if not system_prompt:
        return messages
    if messages and messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{system_prompt}\n\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": system_prompt}, *messages]


def _until(tokens: list[int], stops: Sequence[int]) -> list[int]:
    return next((tokens[:i] for i, token in enumerate(tokens) if token in stops), tokens)
