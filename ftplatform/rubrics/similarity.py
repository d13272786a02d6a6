"""Do two criteria ask for the same?

By words: the Jaccard index of their stemmed content words, or the Dice index of their character trigrams. That finds a copy with other
function words, case or order, and is blind to a paraphrase.

By meaning: the mean of two cosines, of the whole criteria and of what only one of them says. The cosine of whole criteria alone ranks
"mentions the cancellation fee" against "mentions the cancellation period" above most paraphrases, because they share their frame; what
they do not share (fee, period) tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ftplatform.rows.normalize import normalize_text

#: Texts to vectors, shape (n, d), one row per text, not zero.
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Matrix = NDArray[np.float64]

#: Pairs whose whole texts are further apart than this are about different things; their remainders are not compared.
_LEAST_COSINE = 0.3

# Words that say that there is an answer, not what it should be like; the rest are English function words.
_FRAME = frozenset(
    re.findall(
        r"\w+",
        "the a an answer answers reply replies response responses assistant output it its is are was were be been being to of in on at"
        " by for with and or that which this their there has have had do does did s as any every each all should must shall can will",
    )
)
_SUFFIXES = ("ing", "ies", "ied", "ed", "es", "s", "ly")
_OPENING = re.compile(r"^(?:does |do |is )?(?:the |this )?(?:answer|reply|response|assistant|output) ")
_NEGATIONS = re.compile(r"\b(?:no|not|never|without|nothing|none|avoid\w*|absent|free of)\b")


def lexical_similarity(first: Sequence[str], second: Sequence[str]) -> Matrix:
    """Shape (len(first), len(second)), each in [0, 1]: the larger of both indices.

    0 where only one side is negated, or where nothing but frame and function words is left.
    """
    words = [[frozenset(map(_stem, _content(text))) for text in side] for side in (first, second)]
    grams = [[_trigrams(" ".join(_content(text))) for text in side] for side in (first, second)]
    negated = [[bool(_NEGATIONS.search(normalize_text(text))) for text in side] for side in (first, second)]
    found = np.zeros((len(first), len(second)))
    for i in range(len(first)):
        for j in range(len(second)):
            if negated[0][i] == negated[1][j]:
                found[i, j] = max(_jaccard(words[0][i], words[1][j]), _dice(grams[0][i], grams[1][j]))
    return found


def meaning_similarity(first: Sequence[str], second: Sequence[str], encode: Encode) -> Matrix:
    """Shape (len(first), len(second)), each in [-1, 1]; pairs that are far apart as wholes get half their cosine."""
    whole = _unit(encode([_bare(t) for t in first])) @ _unit(encode([_bare(t) for t in second])).T
    found = whole / 2
    near = [(int(i), int(j)) for i, j in np.argwhere(whole >= _LEAST_COSINE)]
    remainders = [_remainders(first[i], second[j]) for i, j in near]
    texts = list(dict.fromkeys(text for pair in remainders for text in pair if text))
    vectors = dict(zip(texts, _unit(encode(texts)), strict=True)) if texts else {}
    for (i, j), (mine, theirs) in zip(near, remainders, strict=True):
        # Where one says all the other says and more, what is more may change it or not: it is left to the wholes.
        rest = float(vectors[mine] @ vectors[theirs]) if mine and theirs else float(whole[i, j])
        found[i, j] = (whole[i, j] + rest) / 2
    return found


def matched(similarity: Matrix) -> list[tuple[int, int]]:
    """The one-to-one assignment with the largest total similarity: (row, column), as many as the shorter side has entries.

    Source: H. W. Kuhn, Naval Research Logistics Quarterly 2 (1955) 83. By scipy.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _content(text: str) -> list[str]:
    return [word for word in normalize_text(text).split() if word not in _FRAME]


def _stem(word: str) -> str:
    """Without a common English ending, where enough of the word stays."""
    suffix = next((s for s in _SUFFIXES if word.endswith(s) and len(word) - len(s) >= 4), "")
    return word.removesuffix(suffix).removesuffix("e")


def _trigrams(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 3] for i in range(max(min(1, len(text)), len(text) - 2)))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def _dice(a: frozenset[str], b: frozenset[str]) -> float:
    return 2 * len(a & b) / max(1, len(a) + len(b))


def _bare(text: str) -> str:
    """Without "the answer", with which most criteria begin and which would make all of them alike."""
    return _OPENING.sub("", normalize_text(text)) or text


def _remainders(first: str, second: str) -> tuple[str, str]:
    words = _content(first), _content(second)
    stems = [set(map(_stem, side)) for side in words]
    mine, theirs = ([w for w in words[k] if _stem(w) not in stems[1 - k]] for k in (0, 1))
    return " ".join(mine), " ".join(theirs)


def _unit(vectors: NDArray[np.float32]) -> Matrix:
    wide = np.asarray(vectors, dtype=np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
