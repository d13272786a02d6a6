"""The hash of a shingle, in plain Python: what the kernels compute in bulk, and what other tools may be given to agree with them.

A word is cut into 8-byte little-endian numbers c_0, c_1, ...; its hash is x ^ (x >> 32) with x = sum of c_k * CHUNK**(k + 1). A shingle
of words w_0, w_1, ... is z = sum of w_i * WORD**(i + 1), finished as the upper half of (z ^ (z >> 32)) * FINISH. All modulo 2**64; the
multipliers are odd, so that words of up to eight bytes never collide. It is no defense against texts built to collide.

32 bits: two texts of 100 shingles show a false common one with probability 1e4 / 2**32 = 2e-6.
"""

from __future__ import annotations

#: Version of the rule that makes words of a text and hashes of words; stored with every sketch.
WORD_RULE = 1
MASK = (1 << 64) - 1
# Odd 64-bit constants of splitmix64, xxHash64 and MurmurHash3.
CHUNK = 0x9E3779B97F4A7C15
WORD = 0xC2B2AE3D27D4EB4F
FINISH = 0xFF51AFD7ED558CCD
SEQUENCE = 0x165667B19E3779F9


def word_hash(word: bytes) -> int:
    """64-bit hash of one lower-case UTF-8 word."""
    total = 0
    for k, start in enumerate(range(0, len(word), 8)):
        total += int.from_bytes(word[start : start + 8], "little") * pow(CHUNK, k + 1, 1 << 64)
    total &= MASK
    return total ^ (total >> 32)


def shingle_hash(data: bytes) -> int:
    """32-bit hash of a shingle: its words in lower case and UTF-8, joined by single spaces."""
    total = sum(word_hash(word) * pow(WORD, i + 1, 1 << 64) for i, word in enumerate(data.split(b" "))) & MASK
    return ((total ^ (total >> 32)) * FINISH & MASK) >> 32


def sequence_hash(data: bytes) -> int:
    """64-bit hash of a whole text, given as its words joined by single spaces; equal texts up to case and punctuation agree."""
    total = 0
    for i, word in enumerate(data.split(b" ") if data else []):
        mixed = (word_hash(word) ^ (i * WORD & MASK)) * FINISH & MASK
        total += (mixed ^ (mixed >> 32)) * SEQUENCE
    return total & MASK


def powers(base: int, count: int) -> list[int]:
    """base, base**2, ... modulo 2**64."""
    return [pow(base, k + 1, 1 << 64) for k in range(count)]
