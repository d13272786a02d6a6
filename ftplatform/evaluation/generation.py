"""Generating and scoring text with a base model and, over the same weights, an adapter.

One copy of the base weights stays in memory; the adapter is switched on and off, so base and tuned model answer the same prompts
under the same decoding. Same inputs, same machine: same answers. Batches are ordered by length (little padding), padded on the
left, and stop at the end-of-sequence token. Sampling draws from a stream that belongs to the prompt, not to its place in a batch.

Nothing here reaches a network or runs code from a model folder: local files only, safetensors only, no `trust_remote_code`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import EvaluationError, UnsafeModel

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: A conversation up to the turn to be answered.
Conversation = Sequence[Mapping[str, Any]]

#: Called with (answered, all) after every batch.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How answers are produced. It is part of what an answer is: a comparison needs the same on both sides.

    Attributes:
        max_new_tokens: length limit of an answer.
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability is sampled from (Holtzman et al. 2020); 1 is all.
        seed: of the sampling.
    """

    max_new_tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; an answer needs at least one token")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature {self.temperature} must be >= 0 and top_p {self.top_p} in (0, 1]")

    @property
    def key(self) -> str:
        """Short digest of the settings."""
        return digest(asdict(self))[:16]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Teacher-forced log-probabilities (nats) of n completions: `total`, `mean` per token, number of `tokens`; shape (n,)."""

    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    tokens: NDArray[np.int64]


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files in a model or adapter folder (hidden files left out)."""
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    if not files:
        raise EvaluationError(
            f"{folder} holds no files.", remedy="Give the folder with config.json, tokenizer files and *.safetensors."
        )
    return digest({p.relative_to(folder).as_posix(): _file_sha256(p) for p in files})


def _file_sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        base, adapter = Path(base), Path(adapter) if adapter is not None else None
        _refuse_unsafe_base(base)
        if adapter is not None:
            _refuse_unsafe_adapter(adapter)
        place = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device)
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        try:
            with _quiet_progress():
                tokenizer = AutoTokenizer.from_pretrained(
                    str(base), local_files_only=True, trust_remote_code=False, padding_side="left"
                )
                model: Any = AutoModelForCausalLM.from_pretrained(
                    str(base),
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.float32 if place.type == "cpu" else "auto",
                )
                if adapter is not None:
                    from peft import PeftModel

                    # `base_model_name_or_path` inside the adapter is where it was trained; the base given here decides.
                    with warnings.catch_warnings():
                        # PEFT asks transformers for a property it has renamed; nothing a user could do about it.
                        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=False, local_files_only=True)
        finally:
            transformers_logging.set_verbosity(verbosity)
        if tokenizer.chat_template is None:
            raise EvaluationError(
                f"The tokenizer in {base} has no chat template.", remedy="Add chat_template.jinja to the model folder."
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = model.to(place).eval()
        digests = {"base": folder_digest(base), "adapter": None if adapter is None else folder_digest(adapter)}
        return cls(model, tokenizer, has_adapter=adapter is not None, digests=digests, batch_size=batch_size, threads=threads)

    @property
    def vocabulary_size(self) -> int:
        """Number of entries of the tokenizer."""
        return len(self._tokenizer)

    def render(self, conversations: Sequence[Conversation], system_prompt: str | None = None) -> list[str]:
        """The text the model reads for each conversation, up to where its answer starts.

        A production `system_prompt` goes in front of a conversation's own system message, which is kept below it.
        """
        return [
            self._tokenizer.apply_chat_template(_with_system_prompt(c, system_prompt), tokenize=False, add_generation_prompt=True)
            for c in conversations
        ]

    def generate(
        self,
        conversations: Sequence[Conversation],
        decoding: Decoding | None = None,
        *,
        adapter: bool = False,
        system_prompt: str | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Answers, in the order of `conversations`.

        Args:
            conversations: messages up to the turn to be answered; roles and contents as in rows.
            decoding: default greedy, 48 tokens.
            adapter: answer with the adapter; without it the base model answers.
            system_prompt: the production system prompt, if the answer is wanted under it.

        Raises:
            EvaluationError: if a prompt and its answer do not fit into the model's context, or there is no adapter to switch on.
        """
        import torch
        from transformers import LogitsProcessorList

        decoding = decoding or Decoding()
        prompts = self.render(conversations, system_prompt)
        encoded = [self._encode(text) for text in prompts]
        self._check_context([len(ids) for ids in encoded], decoding.max_new_tokens)
        answers = [""] * len(prompts)
        stops = self._stop_tokens()
        done = 0
        with self._compute(adapter):
            for batch in self._batches([len(ids) for ids in encoded]):
                ids, mask = self._pad([encoded[i] for i in batch])
                processors = LogitsProcessorList()
                if decoding.temperature > 0:
                    processors.append(_sampler(decoding, [prompts[i] for i in batch], self._model.device, ids.shape[1]))
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
                    answers[i] = self._tokenizer.decode(_until(tokens, stops), skip_special_tokens=True).strip()
                done += len(batch)
                if progress is not None:
                    progress(done, len(prompts))
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
        import torch

        prompts = [self._encode(text) for text in self.render(conversations, system_prompt)]
        self._check_context([len(ids) for ids in prompts], 1)
        limit = self._context()
        targets = [self._encode(c)[: limit - len(p) if limit else None] for p, c in zip(prompts, completions, strict=True)]
        pairs = list(zip(prompts, targets, strict=True))
        total = np.zeros(len(pairs))
        tokens = np.array([len(t) for t in targets], dtype=np.int64)
        done = 0
        with self._compute(adapter):
            for batch in self._batches([len(p) + len(t) for p, t in pairs]):
                ids, mask = self._pad([pairs[i][0] + pairs[i][1] for i in batch])
                longest = max(1, int(tokens[batch].max()))
                logits = self._logits(ids, mask, longest + 1)[:, :-1]
                targets_here = ids[:, -longest:]
                # log p = logit - logsumexp; avoids a second array of vocabulary size.
                picked = logits.gather(-1, targets_here[..., None])[..., 0].float() - torch.logsumexp(logits.float(), -1)
                wanted = (
                    torch.arange(longest, 0, -1, device=ids.device)[None, :]
                    <= torch.as_tensor(tokens[batch], device=ids.device)[:, None]
                )
                total[batch] = torch.where(wanted, picked, 0.0).double().sum(1).cpu().numpy()
                done += len(batch)
                if progress is not None:
                    progress(done, len(pairs))
        with np.errstate(invalid="ignore", divide="ignore"):
            return LogProbs(total, np.where(tokens > 0, total / tokens, np.nan), tokens)

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
        import torch

        firsts = [self._encode(text)[:1] for text in starts]
        if not all(firsts):
            raise ValueError("every start needs at least one token")
        columns = torch.tensor([ids[0] for ids in firsts])
        encoded = [self._encode(text) for text in self.render(conversations, system_prompt)]
        self._check_context([len(ids) for ids in encoded], 1)
        result = np.zeros((len(encoded), len(starts)))
        with self._compute(adapter):
            for batch in self._batches([len(ids) for ids in encoded]):
                ids, mask = self._pad([encoded[i] for i in batch])
                probabilities = torch.softmax(self._logits(ids, mask, 1)[:, -1].float(), -1)
                result[batch] = probabilities[:, columns.to(probabilities.device)].double().cpu().numpy()
        return result

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _encode(self, text: str) -> list[int]:
        # The chat template has written the special tokens already.
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

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

    def _stop_tokens(self) -> list[int]:
        configured = self._model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return sorted({token for token in [*listed, self._tokenizer.eos_token_id] if token is not None})

    def _context(self) -> int | None:
        return getattr(self._model.config, "max_position_embeddings", None)

    def _check_context(self, lengths: Sequence[int], reserve: int) -> None:
        limit = self._context()
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


def _sampler(decoding: Decoding, prompts: Sequence[str], device: Any, prompt_width: int) -> Any:
    """A logits processor that draws the next token itself and leaves only that one possible.

    Draw k of a prompt is a number fixed by (seed, prompt, k), turned into a token through the inverse cumulative distribution. So
    an answer does not depend on the batch it happened to be in or on any global random state.
    """
    import torch
    from transformers import LogitsProcessor

    streams = [np.random.default_rng(int(sha256_hex(f"{decoding.seed}\n{text}".encode())[:16], 16)) for text in prompts]
    draws = torch.tensor(np.stack([stream.random(decoding.max_new_tokens) for stream in streams]), device=device)

    class _InverseCdf(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            step = input_ids.shape[1] - prompt_width
            probabilities = torch.softmax(scores.double() / decoding.temperature, -1)
            ordered, tokens = torch.sort(probabilities, dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            ordered = torch.where(before < decoding.top_p, ordered, 0.0)
            cumulative = ordered.cumsum(-1)
            target = draws[:, step, None] * cumulative[:, -1:]
            place = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[-1] - 1)
            chosen = tokens.gather(-1, place)
            return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)

    return _InverseCdf()


def _refuse_unsafe_base(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UnsafeModel(f"{folder} has no config.json.", remedy="Give the folder of a Hugging Face causal language model.")
    if not any(folder.glob("*.safetensors")):
        raise UnsafeModel(
            f"{folder} holds no *.safetensors.",
            remedy="Convert the weights to safetensors; pickled weights can run code and are never loaded.",
        )
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and _read_json(path).get("auto_map"):
            raise UnsafeModel(
                f"{path} asks to run Python code from the model folder (auto_map).",
                remedy="Use a model of an architecture that transformers has.",
            )


def _refuse_unsafe_adapter(folder: Path) -> None:
    path = folder / "adapter_config.json"
    if not path.is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise UnsafeModel(
            f"{folder} is not an adapter in safetensors form (adapter_config.json and adapter_model.safetensors).",
            remedy="Save the adapter with safetensors; pickled weights can run code and are never loaded.",
        )
    config = _read_json(path)
    # `megatron_core` names a Python module that peft would import.
    if config.get("peft_type") != "LORA" or config.get("megatron_config") or config.get("auto_mapping"):
        raise UnsafeModel(f"{path} is not a plain LoRA adapter.", remedy="Train the adapter with LoRA and without custom modules.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UnsafeModel(f"{path} is not JSON: {error}.", remedy="Restore the file from where the model came from.") from error
    if not isinstance(value, dict):
        raise UnsafeModel(f"{path} is not a JSON object.", remedy="Restore the file from where the model came from.")
    return value


@contextmanager
def _quiet_progress() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()
