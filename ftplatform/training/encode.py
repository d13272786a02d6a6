"""From conversations to tokens: chat template, loss mask, length limit.

The loss mask follows the `trainable` flag of each message, less the parts of it that are masked. Where a message begins and ends
inside the rendered conversation is found by rendering prefixes of it, which works with any template that only ever appends; a
template that does not (one that drops earlier reasoning, say) is refused, because a mask guessed on it would train on the wrong
words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ftplatform.errors import TrainingError
from ftplatform.training.batches import NO_LOSS, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Rows that cannot be used are left out and listed; more than this share of them is an error, not a footnote.
MAX_LEFT_OUT_SHARE = 0.01
_BATCH = 1024

Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Tokens of a table of rows.

    Attributes:
        examples: one per used row, in row order.
        row_ids: their ids.
        cut: ids of rows whose earliest messages were dropped to fit.
        left_out: (row id, reason) of rows that are not used.
    """

    examples: list[Example]
    row_ids: list[str]
    cut: list[str]
    left_out: list[tuple[str, str]]

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(len(e.tokens) for e in self.examples)

    @property
    def trained_tokens(self) -> int:
        """Tokens that carry loss; the first token of a sequence is never predicted."""
        return sum(e.trained for e in self.examples)

    def sha256(self) -> str:
        """Hash of all tokens and labels in order: equal hashes mean tokenizer, template and mask did the same."""
        state = hashlib.sha256()
        for example in self.examples:
            state.update(len(example.tokens).to_bytes(8, "little"))
            state.update(example.tokens.astype("<i8").tobytes())
            state.update(example.labels.astype("<i8").tobytes())
            if example.weight != 1.0:
                state.update(np.float64(example.weight).astype("<f8").tobytes())
        return state.hexdigest()


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    spans: list[tuple[int, int]]  # trainable parts, as character positions in `text`
    masked: list[tuple[int, int]]  # and what of them is not learned


def encode_rows(rows: pa.Table, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> EncodedRows:
    """Tokens and labels of every row.

    A row over `max_tokens` loses its earliest messages (never a system message), always up to the beginning of a user message,
    until it fits. A row is left out, and listed, when nothing trainable remains, when its last exchange alone is too long, or when a
    text in it spells one of the tokenizer's control tokens: such a text could end its own turn.

    Args:
        rows: table with `row_id` and `messages` (see `ROW_SCHEMA`), and perhaps `weight` (`loop.Example`) and `masked` (a list of
            `rows.schema.MASKED_TYPE`).
        tokenizer: a fast tokenizer with a chat template.
        max_tokens: longest allowed example.

    Raises:
        TrainingError: no chat template, no fast tokenizer, a template that is not prefix-consistent, or more than
            `MAX_LEFT_OUT_SHARE` of the rows unusable.
    """
    if not tokenizer.is_fast:
        raise TrainingError(
            "the base model has no fast tokenizer (tokenizer.json)", remedy="Convert it with transformers and save it."
        )
    if not tokenizer.chat_template:
        raise TrainingError(
            "the base model's tokenizer has no chat template", remedy="Use a chat model, or add chat_template.jinja."
        )
    control = sorted({*tokenizer.all_special_tokens, *(str(t) for t in tokenizer.added_tokens_decoder.values() if t.special)})
    row_ids: list[str] = rows.column("row_id").to_pylist()
    examples: list[Example | None] = [None] * rows.num_rows
    cut: list[str] = []
    left_out: list[tuple[str, str]] = []
    pending: list[tuple[int, Messages]] = []

    def flush() -> None:
        rendered = [_render(tokenizer, messages, row_ids[i]) for i, messages in pending]
        for (i, messages), example in zip(pending, _tokenize(tokenizer, rendered), strict=True):
            if len(example.tokens) > max_tokens:
                shorter = _fit(tokenizer, messages, row_ids[i], max_tokens)
                if shorter is None:
                    left_out.append((row_ids[i], f"its last exchange alone has more than {max_tokens} tokens"))
                    continue
                cut.append(row_ids[i])
                example = shorter
            if not example.trained:
                left_out.append((row_ids[i], "all of it that is trainable is masked"))
                continue
            examples[i] = example
        pending.clear()

    for i, messages in enumerate(_conversations(rows)):
        reason = _unusable(messages, control)
        if reason is not None:
            left_out.append((row_ids[i], reason))
            continue
        pending.append((i, messages))
        if len(pending) == _BATCH:
            flush()
    flush()
    if len(left_out) > MAX_LEFT_OUT_SHARE * rows.num_rows:
        first = "; ".join(f"row {row[:12]}: {why}" for row, why in left_out[:3])
        raise TrainingError(
            f"{len(left_out)} of {rows.num_rows} rows cannot be used ({first})",
            remedy="Repair these rows, raise max_tokens, or filter them in the dataset, where the slice checks see it.",
        )
    weights = rows.column("weight").to_pylist() if "weight" in rows.column_names else [1.0] * rows.num_rows
    used = [(i, replace(e, weight=weights[i])) for i, e in enumerate(examples) if e is not None]
    return EncodedRows([e for _, e in used], [row_ids[i] for i, _ in used], cut, left_out)


def _conversations(rows: pa.Table) -> Sequence[Messages]:
    """The messages of each row; those with masked parts have them as `masked`."""
    conversations = rows.column("messages").to_pylist()
    if "masked" not in rows.column_names:
        return conversations
    ids = rows.column("row_id")
    for at, (messages, parts) in enumerate(zip(conversations, rows.column("masked").to_pylist(), strict=True)):
        for part in parts or ():
            message = messages[part["turn"]] if 0 <= part["turn"] < len(messages) else None
            if message is None or not 0 <= part["start"] < part["end"] <= len(message["content"]):
                raise TrainingError(
                    f"row {ids[at].as_py()} has no part {part} that could be masked", remedy="Build its dataset again."
                )
            message.setdefault("masked", []).append((part["start"], part["end"]))
    return conversations


def _unusable(messages: Messages, control: Sequence[str]) -> str | None:
    if not any(m["trainable"] for m in messages):
        return "no message is trainable"
    for message in messages:
        spelled = next((token for token in control if token in message["content"]), None)
        if spelled is not None:
            return f"a {message['role']} text spells the control token {spelled!r}"
    return None


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, row: str) -> _Rendered:
    """The conversation as text, and where the trainable messages (with their end-of-turn token) stand in it."""
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]

    def text(count: int, *, prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return str(tokenizer.apply_chat_template(plain[:count], tokenize=False, add_generation_prompt=prompt))
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # Templates raise the first where they refuse something, and the others where they compute with what is not there.
            raise TrainingError(
                f"the chat template refuses row {row}: {error}", remedy="Repair the order of its roles, or the template."
            ) from error

    full = text(len(plain))
    spans, masked = [], []
    for i, message in enumerate(messages):
        if not message["trainable"]:
            continue
        after = text(i + 1)
        # A row may open with the assistant (plain text). Templates need a message, so take the opening of a turn from after this
        # one.
        before = text(i, prompt=True) if i else _opening(after, text(1, prompt=True)[len(after) :])
        if not (after.startswith(before) and full.startswith(after)):
            raise TrainingError(
                f"the chat template is not prefix-consistent at message {i} of row {row}: what it renders for the first messages"
                " is not the beginning of what it renders for all",
                remedy="Train single-turn rows, or use a training template that only appends.",
            )
        spans.append((len(before), len(after)))
        if parts := message.get("masked"):
            # Templates may strip what stands around a text.
            trimmed = message["content"].strip()
            begin = after.find(trimmed, len(before)) - message["content"].index(trimmed)
            if not trimmed or after.find(trimmed, len(before)) < 0:
                raise TrainingError(
                    f"the chat template changes the text of message {i} of row {row}, so that nothing in it can be masked",
                    remedy="Use a template that writes texts as they are, or rewrite the sentences instead of masking them.",
                )
            masked += [(begin + start, begin + end) for start, end in parts]
    return _Rendered(full, spans, masked)


def _opening(turn: str, generation_prompt: str) -> str:
    at = turn.find(generation_prompt) if generation_prompt else -1
    return turn[: at + len(generation_prompt)] if at >= 0 else ""


def _tokenize(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[_Rendered]) -> list[Example]:
    if not rendered:
        return []
    # The template has already written every special token the model wants.
    encoded = tokenizer(
        [r.text for r in rendered], add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False
    )
    examples = []
    for conversation, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        tokens = np.asarray(ids, dtype=np.int64)
        starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        trained = np.zeros(len(tokens), dtype=bool)
        for begin, end in conversation.spans:
            trained |= (starts >= begin) & (starts < end)
        for begin, end in conversation.masked:
            # A token that reaches into the part goes with it: the space before a sentence belongs to its first word.
            trained &= ~((starts < end) & (ends > begin))
        examples.append(Example(tokens, np.where(trained, tokens, NO_LOSS)))
    return examples


def _fit(tokenizer: PreTrainedTokenizerBase, messages: Messages, row: str, max_tokens: int) -> Example | None:
    """The row without its earliest exchanges, or None if even the last one with something to learn is too long."""
    system = [m for m in messages if m["role"] == "system"]
    spoken = [m for m in messages if m["role"] != "system"]
    for start in (i for i, m in enumerate(spoken) if i and m["role"] == "user"):
        rest = [*system, *spoken[start:]]
        if not any(m["trainable"] for m in rest):
            return None
        example = _tokenize(tokenizer, [_render(tokenizer, rest, row)])[0]
        if len(example.tokens) <= max_tokens:
            return example
    return None
