from __future__ import annotations

import numpy as np
import polars as pl
from datasketch import MinHash, MinHashLSH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.kernels.hashing import shingle_hash
from ftplatform.kernels.minhash import EMPTY, minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform_tests.unit.kernels import reference

WORDS = st.sampled_from(["refund", "order", "Please", "the", "é", "日本", "a", "internationalization"])
TEXTS = st.lists(st.lists(WORDS, max_size=120).map(" ".join), max_size=6)


def theirs(text: str, num_perm: int = 128, seed: int = 1) -> MinHash:
    sketch = MinHash(num_perm=num_perm, seed=seed, scheme="affine32", hashfunc=shingle_hash)
    sketch.update_batch(reference.shingles(text))
    return sketch


def ours(texts: list[str], num_perm: int = 128, seed: int = 1) -> np.ndarray:
    return minhash(shingle_sets(pl.Series(texts, dtype=pl.String)), num_perm, seed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, num_perm=st.sampled_from([1, 16, 100, 128]), seed=st.integers(0, 2**32 - 1))
def test_signatures_are_those_of_datasketch(backend: str, texts: list[str], num_perm: int, seed: int) -> None:
    signatures = ours(texts, num_perm, seed)
    assert signatures.dtype == np.uint32
    for text, signature in zip(texts, signatures, strict=True):
        np.testing.assert_array_equal(signature, theirs(text, num_perm, seed).hashvalues)


def test_the_empty_set_has_their_empty_signature(backend: str) -> None:
    assert (ours(["", "?!", "🙂"]) == EMPTY).all()
    assert theirs("?!").is_empty()


def test_an_index_of_their_sketches_is_queried_with_ours_and_the_reverse(backend: str) -> None:
    base = [
        f"customer {i} wants a refund of order number {i * 7} because the parcel was broken on arrival at {i} street"
        for i in range(40)
    ]
    copies = [text.upper() + " please" for text in base]
    signatures = ours(copies)

    def adopted(signature: np.ndarray) -> MinHash:
        return MinHash(seed=1, scheme="affine32", hashfunc=shingle_hash, hashvalues=signature)

    index = MinHashLSH(threshold=0.5, num_perm=128)
    reverse = MinHashLSH(threshold=0.5, num_perm=128)
    for i, text in enumerate(base):
        index.insert(i, theirs(text))
        reverse.insert(i, adopted(signatures[i]))
    assert all(i in index.query(adopted(signatures[i])) for i in range(40))
    assert all(i in reverse.query(theirs(base[i])) for i in range(40))
    assert adopted(signatures[3]).jaccard(theirs(base[3])) > 0.7 > adopted(signatures[3]).jaccard(theirs(base[30]))


def test_equal_minima_estimate_the_similarity(backend: str) -> None:
    words = [f"w{i}" for i in range(400)]
    a, b = " ".join(words[:300]), " ".join(words[100:])
    exact = reference.jaccard(reference.shingles(a), reference.shingles(b))
    signatures = ours([a, b], 1024)
    share = (signatures[0] == signatures[1]).mean()
    assert abs(share - exact) < 4 * (exact * (1 - exact) / 1024) ** 0.5
