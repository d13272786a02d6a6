"""The kernels' inner loops, compiled by numba at first use. Each has a NumPy twin with the same result; read that one first.

Unsigned arithmetic wraps, as the hashes want. Constants are NumPy scalars because numba turns ``uint64`` with ``int64`` into a float;
32-bit products are cut back because numba computes them in 64 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ftplatform.kernels.backend import Compiled
from ftplatform.kernels.hashing import CHUNK, FINISH, SEQUENCE, WORD

Array = Any  # numba compiles for the array types it is given; the callers state them
_CHUNK, _CHUNK_2, _WORD = np.uint64(CHUNK), np.uint64(pow(CHUNK, 2, 1 << 64)), np.uint64(WORD)
_FINISH, _SEQUENCE = np.uint64(FINISH), np.uint64(SEQUENCE)
_ALL, _NONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
_HALF = np.uint64(32)
_LARGEST = np.uint32(0xFFFFFFFF)


@Compiled
def shingle_texts(
    data: Array,
    offsets: Array,
    powers: Array,
    plain: Array,
    eight: Array,
    change: Array,
    edges: Array,
    words: Array,
    sums: Array,
    out: Array,
    ends: Array,
    hashes: Array,
) -> int:
    """Shingle hashes of each text into `out`, their ends into `ends`, word-sequence hashes into `hashes`; returns the total.

    `eight` is `plain` read as 8-byte numbers at every position; `plain`, `change`, `edges`, `words` and `sums` are
    scratch for the longest text.
    """
    width, total = len(powers), 0
    for t in range(len(offsets) - 1):
        source = data[offsets[t] : offsets[t + 1]]
        n = len(source)
        for i in range(n):  # becomes vector code: no branch, no table
            byte = source[i]
            low = byte | np.uint8(32)
            letter = np.uint8(low - np.uint8(97)) < np.uint8(26)
            digit = np.uint8(byte - np.uint8(48)) < np.uint8(10)
            word = letter | digit | (byte == np.uint8(95)) | (byte >= np.uint8(128))
            plain[i] = (low if letter else byte) if word else np.uint8(0)
        plain[n] = 0
        for i in range(1, n + 1):
            change[i] = (plain[i] != 0) != (plain[i - 1] != 0)
        edges[0] = 0
        count = np.int64(plain[0] != 0)
        for i in range(1, n + 1):  # always written, kept where a word begins or ends: no branch to mispredict
            edges[count] = i
            count += np.int64(change[i])
        count >>= 1
        for j in range(count):
            start, end = np.int64(edges[2 * j]), np.int64(edges[2 * j + 1])
            x = (eight[start] & (_ALL >> np.uint64(64 - 8 * min(end - start, 8)))) * _CHUNK
            rest = min(max(end - start - 8, 0), 8)
            if rest:
                x += (eight[start + 8] & (_ALL >> np.uint64(64 - 8 * rest))) * _CHUNK_2
            start, power = start + 16, _CHUNK_2
            while start < end:
                power *= _CHUNK
                x += (eight[start] & (_ALL >> np.uint64(64 - 8 * min(end - start, 8)))) * power
                start += 8
            words[j] = x ^ (x >> _HALF)
        sequence = _NONE
        for j in range(count):
            z = (words[j] ^ (np.uint64(j) * _WORD)) * _FINISH
            sequence += (z ^ (z >> _HALF)) * _SEQUENCE
        hashes[t] = sequence
        for j in range(count, count + width):
            words[j] = _NONE
        made = count - width + 1 if count >= width else min(count, 1)
        sums[:made] = _NONE
        for k in range(width):
            power = powers[k]
            for j in range(made):
                sums[j] += words[j + k] * power
        for j in range(made):
            z = (sums[j] ^ (sums[j] >> _HALF)) * _FINISH
            out[total + j] = np.uint32(z >> _HALF)
        total += made
        ends[t] = total
    return int(total)


@Compiled
def sort_unique(values: Array, offsets: Array, out: Array, ends: Array, counts: Array) -> int:
    """Sorted distinct values of each slice into `out`; hashes are uniform, so a scatter by their upper bits leaves little to sort."""
    total = 0
    for t in range(len(offsets) - 1):
        part = values[offsets[t] : offsets[t + 1]]
        n = len(part)
        bits = 1
        while (1 << bits) < n and bits < 16:
            bits += 1
        shift = np.uint32(32 - bits)
        for b in range((1 << bits) + 1):
            counts[b] = 0
        for i in range(n):
            counts[(part[i] >> shift) + 1] += 1
        for b in range(1 << bits):
            counts[b + 1] += counts[b]
        for i in range(n):
            b = part[i] >> shift
            out[total + counts[b]] = part[i]
            counts[b] += 1
        for i in range(total + 1, total + n):  # insertion sort of an almost sorted slice
            value, k = out[i], i - 1
            while k >= total and out[k] > value:
                out[k + 1] = out[k]
                k -= 1
            out[k + 1] = value
        kept = total
        for i in range(total, total + n):
            if i == total or out[i] != out[kept - 1]:
                out[kept] = out[i]
                kept += 1
        total = kept
        ends[t] = total
    return total


@Compiled
def minima(values: Array, offsets: Array, a: Array, b: Array, mixed: Array, out: Array) -> None:
    """MinHash minima of each slice: ``min(a * mix(value) + b)`` modulo 2**32 per permutation; all ones for an empty one."""
    for t in range(len(offsets) - 1):
        start, n = offsets[t], offsets[t + 1] - offsets[t]
        row = out[t]
        row[:] = _LARGEST
        for i in range(n):
            h = values[start + i]
            h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            mixed[i] = h ^ (h >> np.uint32(16))
        if n:
            mixed[n : n + 7] = mixed[0]  # a repeated member changes no minimum, and eight at a time keep the minima in registers
        for i in range(0, n, 8):
            h0, h1, h2, h3, h4, h5, h6, h7 = (
                mixed[i],
                mixed[i + 1],
                mixed[i + 2],
                mixed[i + 3],
                mixed[i + 4],
                mixed[i + 5],
                mixed[i + 6],
                mixed[i + 7],
            )
            for p in range(len(a)):
                m, c = a[p], b[p]
                x = min(np.uint32(np.uint32(m * h0) + c), np.uint32(np.uint32(m * h1) + c))
                y = min(np.uint32(np.uint32(m * h2) + c), np.uint32(np.uint32(m * h3) + c))
                z = min(np.uint32(np.uint32(m * h4) + c), np.uint32(np.uint32(m * h5) + c))
                w = min(np.uint32(np.uint32(m * h6) + c), np.uint32(np.uint32(m * h7) + c))
                row[p] = min(row[p], min(min(x, y), min(z, w)))


@Compiled
def band_keys(signatures: Array, bands: int, rows: int, out: Array) -> None:
    """32-bit key of each band, (bands, n)."""
    keys = np.empty(bands, np.uint32)
    for t in range(len(signatures)):
        keys[:] = np.uint32(0)
        for k in range(rows):
            column = signatures[t, k * bands : (k + 1) * bands]
            for band in range(bands):
                key = np.uint32((keys[band] ^ column[band]) * np.uint32(0x9E3779B1))
                keys[band] = key ^ (key >> np.uint32(15))
        out[:, t] = keys


@Compiled
def radix_order(keys: Array, packed: Array, scratch: Array) -> None:
    """(key, position) pairs of uint32 `keys` as uint64, sorted into `scratch`: three stable passes of 11 bits, no comparison."""
    counts = np.zeros((3, 2048), np.int64)
    low = np.uint32(2047)
    for i in range(len(keys)):
        key = keys[i]
        packed[i] = (np.uint64(key) << _HALF) | np.uint64(i)
        counts[0, key & low] += 1
        counts[1, (key >> np.uint32(11)) & low] += 1
        counts[2, key >> np.uint32(22)] += 1
    for digit in range(3):
        total = 0
        for b in range(2048):
            count = counts[digit, b]
            counts[digit, b] = total
            total += count
        shift = np.uint64(32 + 11 * digit)
        for i in range(len(keys)):
            value = packed[i]
            b = np.int64((value >> shift) & np.uint64(2047))
            scratch[counts[digit, b]] = value
            counts[digit, b] += 1
        packed, scratch = scratch, packed


@Compiled
def bucket_pairs(ordered: Array, full: int, links: int, crowded: Array, out: Array) -> int:
    """Pairs (position << 32 | position) within runs of equal keys; what does not fit into `out` is counted only."""
    count, start, n = 0, 0, len(ordered)
    position = np.uint64(0xFFFFFFFF)
    while start < n:
        end = start + 1
        while end < n and (ordered[end] >> _HALF) == (ordered[start] >> _HALF):
            end += 1
        large = end - start > full
        for i in range(start, end if end - start > 1 else start):
            left = ordered[i] & position
            if large:
                crowded[np.int64(left)] = True
                if i > start + links:
                    if count < len(out):
                        out[count] = ((ordered[start] & position) << _HALF) | left
                    count += 1
            for j in range(i + 1, min(end, i + 1 + links) if large else end):
                if count < len(out):
                    out[count] = (left << _HALF) | (ordered[j] & position)
                count += 1
        start = end
    return count


@Compiled
def agreements(a: Array, left: Array, b: Array, right: Array, out: Array) -> None:
    """Number of equal columns of pairs of rows."""
    for k in range(len(left)):
        x, y = a[left[k]], b[right[k]]
        equal = 0
        for i in range(len(x)):
            equal += x[i] == y[i]
        out[k] = equal


@Compiled
def intersections(
    a: Array, a_offsets: Array, left: Array, b: Array, b_offsets: Array, right: Array, least: Array, out: Array
) -> None:
    """Number of common members of pairs of sorted sets, by merging; 0 as soon as it is certain to stay below `least`."""
    for k in range(len(left)):
        i, i_end = a_offsets[left[k]], a_offsets[left[k] + 1]
        j, j_end = b_offsets[right[k]], b_offsets[right[k] + 1]
        i_limit, j_limit = i_end - least[k], j_end - least[k]  # the position a merge without common members may reach
        common = 0
        while i < i_end and j < j_end and i - common <= i_limit and j - common <= j_limit:
            x, y = a[i], b[j]
            common += x == y
            i += x <= y
            j += y <= x
        out[k] = common if common >= least[k] else 0
