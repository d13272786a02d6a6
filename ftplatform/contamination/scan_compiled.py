"""The scan of a block compiled by numba: classify bytes, cut words, hash them, look for n-grams; nothing is allocated per text.

No step decides per word where it ends: classes come from vector code, edges are written always and kept where the class changes, words
are read as 8-byte numbers. Of the n-grams only anchors are looked for, one among `width - anchor + 1` in a row: each n-gram holds exactly
one of them. Where an anchor is known, the n-grams around it are looked up (as q-gram sampling does: Sutinen and Tarhio 1996).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ftplatform.contamination.scan_tokens import BLANK, IS_DIGIT, KINDS, MIX, OPERATOR, PIECE_STEP, TOKEN_STEP
from ftplatform.kernels.backend import Compiled

#: Added to the hash of a whole text per token it has, so that it cannot be taken for an n-gram or a text of another length.
WHOLE_STEP = np.uint64(0x165667B19E3779F9)
_0, _1, _6, _12, _20, _29, _32, _63 = (np.uint64(n) for n in (0, 1, 6, 12, 20, 29, 32, 63))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@Compiled
def scan_texts(
    data: Any,
    offsets: Any,
    owners: Any,
    prepared: Any,
    bloom: Any,
    bloom_shift: Any,
    slot_keys: Any,
    slot_grams: Any,
    width: int,
    anchor: int,
    plain: Any,
    eight: Any,
    classes: Any,
    sides: Any,
    changes: Any,
    edges: Any,
    words: Any,
    out_text: Any,
    out_position: Any,
    out_gram: Any,
) -> int:
    """Fill the last three arrays (a hit per byte and per text at most) with text, position and gram of every hit; returns how many.

    `bloom` knows the anchors, n-grams of `anchor` tokens. `plain`, `classes`, `sides`, `changes`, `edges` and `words` are scratch for
    the longest text (`words` with room for `width` more); `eight` is `plain` read as 8-byte numbers at every position.
    """
    u8 = np.uint8
    found = 0
    slot_mask = np.uint64(len(slot_keys) - 1)
    stride = width - anchor + 1
    powers = np.empty(width, np.uint64)
    powers[0] = _1
    for k in range(1, width):
        powers[k] = powers[k - 1] * TOKEN_STEP
    # `words` begins with the `carried` last tokens of the owner's earlier texts, of which `position` stand before.
    position = carried = 0
    for text in range(len(offsets) - 1):
        if text > 0 and owners[text] != owners[text - 1]:
            position = carried = 0
        source = data[offsets[text] : offsets[text + 1]]
        n = len(source)
        settled = prepared[text]
        doubtful = u8(0)
        # Classes: 0 separates, 1 is part of a word, 2 is a token by itself.
        classes[0] = u8(0)
        for i in range(n):
            byte = source[i]
            low = byte | u8(32)
            letter = u8(low - u8(97)) < u8(26)
            digit = u8(byte - u8(48)) < u8(10)
            word = letter | digit | (byte >= u8(128))
            operator = (byte == u8(42)) | (byte == u8(45)) | (byte == u8(47)) | (byte == u8(94))
            symbol = (byte == u8(36)) | (byte == u8(43)) | (u8(byte - u8(60)) < u8(3)) | (byte == u8(124)) | (byte == u8(126))
            alone = symbol | (operator & settled)
            sides[i + 1] = u8(2) if operator else u8((byte <= u8(32)) | (byte == u8(127)) | digit)
            plain[i] = (low if letter else byte) if word | alone else u8(0)
            classes[i + 1] = u8(2) if alone else u8(word)
        plain[n] = classes[n + 1] = u8(0)
        sides[0] = sides[n + 1] = u8(0)
        for i in range(
            n
        ):  # an operator counts between digits only, with or without blanks: few have even a digit or blank beside them
            doubtful |= sides[i] & (sides[i + 1] >> u8(1)) & sides[i + 2]
        if doubtful and not settled:
            for i in range(n):
                if KINDS[source[i]] == OPERATOR:
                    before, after = i - 1, i + 1
                    while before >= 0 and KINDS[source[before]] == BLANK:
                        before -= 1
                    while after < n and KINDS[source[after]] == BLANK:
                        after += 1
                    if before >= 0 and after < n and IS_DIGIT[source[before]] and IS_DIGIT[source[after]]:
                        plain[i], classes[i + 1] = source[i], u8(2)
        for i in range(n + 1):
            changes[i] = (classes[i + 1] != classes[i]) | (classes[i + 1] == u8(2))
        count = 0
        for i in range(n + 1):
            edges[count] = i
            count += np.int64(changes[i])

        total = carried
        for j in range(count - 1):
            start, length = np.int64(edges[j]), np.int64(edges[j + 1]) - np.int64(edges[j])
            if plain[start] == 0:
                continue
            token = eight[start] & (_ALL >> np.uint64(64 - 8 * min(length, 8)))
            step = PIECE_STEP
            while length > 8:
                start += 8
                length -= 8
                token += (eight[start] & (_ALL >> np.uint64(64 - 8 * min(length, 8)))) * step
                step *= PIECE_STEP
            token = (token ^ (token >> _32)) * MIX
            words[total] = token ^ (token >> _29)
            total += 1

        for at in range(0, total - anchor + 1, stride):
            key, place = _0, np.uint64(at)  # unsigned: no access is checked for a negative index
            for k in range(anchor):
                key += words[place + np.uint64(k)] * powers[k]
            bits = (_1 << (key & _63)) | (_1 << ((key >> _6) & _63)) | (_1 << ((key >> _12) & _63))
            if bloom[key >> bloom_shift] & bits != bits:
                continue
            for first in range(max(0, at - stride + 1), min(at, total - width) + 1):
                key = _0
                for k in range(width):
                    key += words[first + k] * powers[k]
                slot = (key >> _20) & slot_mask
                while slot_grams[slot] >= 0:
                    if slot_keys[slot] == key:
                        out_text[found] = text
                        out_position[found] = position + first
                        out_gram[found] = slot_grams[slot]
                        found += 1
                        break
                    slot = (slot + _1) & slot_mask
        own = total - carried
        if 0 < own < width:
            key = np.uint64(own) * WHOLE_STEP
            for k in range(own):
                key += words[carried + k] * powers[k]
            slot = (key >> _20) & slot_mask
            while slot_grams[slot] >= 0:
                if slot_keys[slot] == key:
                    out_text[found] = text
                    out_position[found] = position + carried
                    out_gram[found] = slot_grams[slot]
                    found += 1
                    break
                slot = (slot + _1) & slot_mask
        kept = min(total, width - 1)
        words[:kept] = words[total - kept : total]
        position, carried = position + total - kept, kept
    return found
