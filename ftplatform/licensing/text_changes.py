"""What changed between two license texts, for the person who has to decide whether it matters.

Texts with the same words are the same, whatever their layout. Otherwise the comparison names the clauses (sentences) that were added,
removed or changed, marks the words, and says which restrictions appeared or vanished. It judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from ftplatform.licensing.evidence import Clause, find_clauses, normalized_text_digest

#: Sequence matching may take the product of both lengths; larger passages are shown as replaced as a whole.
MAX_PAIRS = 1_000_000

#: Two clauses that share this part of their words are one clause that changed.
_SAME_CLAUSE = 0.5

_PARAGRAPH = re.compile(r"\n[ \t]*\n")
# "e.g. the" ends nothing; a number in front of a clause belongs to it and is joined again.
_SENTENCE_END = re.compile(r"(?<=[.;!?])[\"')\]]?\s+(?=[\"'(\[A-Z0-9])")
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class ClauseChange:
    """One clause that differs.

    Attributes:
        kind: what happened to it.
        before, after: its text; empty if it was not there.
        marked: one text with ``[-removed-]`` and ``{+added+}`` words.
        restrictions: kinds of restrictions either text states.
    """

    kind: Literal["added", "removed", "changed"]
    before: str
    after: str
    marked: str
    restrictions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextComparison:
    """How two texts differ.

    Attributes:
        same_words: True if only case, layout, punctuation, markup or copyright years differ.
        similarity: share of word triples they have in common (Jaccard index, 0 to 1); 1 for the same words.
        changes: clauses that differ, in order; empty if the words are the same.
        appeared, vanished: restrictions that only the second, or only the first, text states.
    """

    same_words: bool
    similarity: float
    changes: tuple[ClauseChange, ...] = ()
    appeared: tuple[Clause, ...] = ()
    vanished: tuple[Clause, ...] = ()

    def to_record(self, limit: int = 20) -> dict[str, Any]:
        """JSON-able form with at most `limit` changes, restricting ones first, texts cut at 500 characters."""
        ordered = sorted(self.changes, key=lambda change: not change.restrictions)
        return {
            "same_words": self.same_words,
            "similarity": round(self.similarity, 4),
            "changes": len(self.changes),
            "shown": [
                {"kind": c.kind, "marked": c.marked[:500], "restrictions": list(c.restrictions)} for c in ordered[: max(0, limit)]
            ],
            "appeared": [{"kind": clause.kind, "quote": clause.quote[:500]} for clause in self.appeared],
            "vanished": [{"kind": clause.kind, "quote": clause.quote[:500]} for clause in self.vanished],
        }


def compare_texts(before: str, after: str) -> TextComparison:
    """Compare two license texts, clause by clause.

    Args:
        before, after: plain text or Markdown.

    Returns:
        The comparison. Its time grows with the texts, and beyond that at most with `MAX_PAIRS`.
    """
    if normalized_text_digest(before) == normalized_text_digest(after):
        return TextComparison(True, 1.0)
    old, new = find_clauses(before), find_clauses(after)
    old_kinds, new_kinds = {clause.kind for clause in old}, {clause.kind for clause in new}
    return TextComparison(
        same_words=False,
        similarity=_similarity(before, after),
        changes=tuple(_changes(_clauses(before), _clauses(after))),
        appeared=tuple(clause for clause in new if clause.kind not in old_kinds),
        vanished=tuple(clause for clause in old if clause.kind not in new_kinds),
    )


def _clauses(text: str) -> list[str]:
    """Sentences and headings, line breaks and runs of spaces taken out."""
    found: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        number = ""
        for part in _SENTENCE_END.split(" ".join(paragraph.split())):
            if any(character.isalpha() for character in part):
                found.append(f"{number} {part}".strip())
                number = ""
            else:
                number = f"{number} {part}".strip()
    return found


def _similarity(before: str, after: str) -> float:
    old, new = (_triples(_WORD.findall(text.casefold())) for text in (before, after))
    return len(old & new) / max(1, len(old | new))


def _triples(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def _changes(before: list[str], after: list[str]) -> Iterator[ClauseChange]:
    for old, new in _differing_runs(
        before, after, [normalized_text_digest(c) for c in before], [normalized_text_digest(c) for c in after]
    ):
        yield from _pair(old, new)


def _differing_runs(
    before: list[str], after: list[str], old_keys: list[str], new_keys: list[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Runs of items that differ, as (removed, added)."""
    start = 0
    while start < min(len(old_keys), len(new_keys)) and old_keys[start] == new_keys[start]:
        start += 1
    old_end, new_end = len(old_keys), len(new_keys)
    while min(old_end, new_end) > start and old_keys[old_end - 1] == new_keys[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
    if (old_end - start) * (new_end - start) > MAX_PAIRS:
        yield before[start:old_end], after[start:new_end]
        return
    matcher = SequenceMatcher(None, old_keys[start:old_end], new_keys[start:new_end], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            yield before[start + i : start + j], after[start + k : start + m]


def _pair(old: list[str], new: list[str]) -> Iterator[ClauseChange]:
    """Changes of one run: clauses that mostly agree are one that changed; order is kept."""
    if len(old) * len(new) * 100 > MAX_PAIRS:
        yield _change("changed", " ".join(old), " ".join(new))
        return
    old_words, new_words = ([set(_WORD.findall(clause.casefold())) for clause in clauses] for clauses in (old, new))
    position = 0
    for clause, words in zip(old, old_words, strict=True):
        shares = [len(words & other) / max(1, len(words | other)) for other in new_words[position:]]
        best = max(range(len(shares)), key=shares.__getitem__, default=None)
        if best is None or shares[best] < _SAME_CLAUSE:
            yield _change("removed", clause, "")
            continue
        yield from (_change("added", "", added) for added in new[position : position + best])
        yield _change("changed", clause, new[position + best])
        position += best + 1
    yield from (_change("added", "", added) for added in new[position:])


def _change(kind: Literal["added", "removed", "changed"], before: str, after: str) -> ClauseChange:
    restrictions = sorted({clause.kind for text in (before, after) for clause in find_clauses(text)})
    return ClauseChange(kind, before, after, _marked(before, after), tuple(restrictions))


def _marked(before: str, after: str) -> str:
    old, new = before.split(), after.split()
    if len(old) * len(new) > MAX_PAIRS:
        return f"[-{before}-] {{+{after}+}}"
    old_keys, new_keys = ([_word_key(word) for word in words] for words in (old, new))
    shown = []
    for tag, i, j, k, m in SequenceMatcher(None, old_keys, new_keys, autojunk=False).get_opcodes():
        if tag == "equal":
            shown += new[k:m]
            continue
        if j > i:
            shown.append(f"[-{' '.join(old[i:j])}-]")
        if m > k:
            shown.append(f"{{+{' '.join(new[k:m])}+}}")
    return " ".join(shown)


def _word_key(word: str) -> str:
    return "".join(_WORD.findall(word.casefold())) or word
