"""The scan as one compiled loop over the bytes (numba): tokenize, hash, roll the n-gram, look it up; nothing is allocated per text."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftplatform.contamination.scan_tokens import BLANK, BYTE_STEP, IS_DIGIT, KINDS, MIX, OPERATOR, SYMBOL, TOKEN_STEP, VALUES, WORD
from ftplatform.kernels.backend import Compiled

_TOKEN_INVERSE = np.uint64(pow(int(TOKEN_STEP), -1, 1 << 64))
#: Added to the hash of a whole text per token it has, so that it cannot be taken for an n-gram or a text of another length.
WHOLE_STEP = np.uint64(0x165667B19E3779F9)
_0, _1, _6, _12, _20, _29, _32, _63 = (np.uint64(n) for n in (0, 1, 6, 12, 20, 29, 32, 63))
#: Per byte: the value it adds to a word's hash, 0 where it ends the word.
_WORD_VALUES = np.where(KINDS == WORD, VALUES, _0)


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
    out_text: Any,
    out_position: Any,
    out_gram: Any,
) -> int:
    """Fill the three outputs (each as long as `data`) with text, position and gram of every hit; returns how many."""
    found = 0
    ring = np.zeros(width, np.uint64)
    slot_mask = np.uint64(len(slot_keys) - 1)
    lead = _1
    for _ in range(width - 1):
        lead *= TOKEN_STEP
    owner = np.int64(-1)
    gram = power = _0
    position = ring_at = 0
    for text in range(len(offsets) - 1):
        if text == 0 or owners[text] != owner:
            owner = owners[text]
            gram, power = _0, _1
            position = ring_at = 0
        # Unsigned, so that no access is checked for a negative index.
        begin, end = np.uint64(offsets[text]), np.uint64(offsets[text + 1])
        at = begin
        own = 0
        while at < end:
            byte = data[at]
            value = _WORD_VALUES[byte]
            at += _1
            if value != _0:
                token = value
                step = BYTE_STEP
                while at < end:
                    value = _WORD_VALUES[data[at]]
                    if value == _0:
                        break
                    token += value * step
                    step *= BYTE_STEP
                    at += _1
            else:
                kind = KINDS[byte]
                if kind == OPERATOR and not prepared[text]:
                    # `before` is one past the byte it means: it may stand at the beginning of the data.
                    before, after = at - _1, at
                    while before > begin and KINDS[data[before - _1]] == BLANK:
                        before -= _1
                    while after < end and KINDS[data[after]] == BLANK:
                        after += _1
                    if before == begin or after >= end or not IS_DIGIT[data[before - _1]] or not IS_DIGIT[data[after]]:
                        continue
                elif kind != SYMBOL and kind != OPERATOR:
                    continue
                token = VALUES[byte]
            token = (token ^ (token >> _32)) * MIX
            token ^= token >> _29
            own += 1
            if position < width:
                gram += token * power
                power *= TOKEN_STEP
            else:
                gram = (gram - ring[ring_at]) * _TOKEN_INVERSE + token * lead
            ring[ring_at] = token
            ring_at += 1
            if ring_at == width:
                ring_at = 0
            position += 1
            if position >= width:
                bits = (_1 << (gram & _63)) | (_1 << ((gram >> _6) & _63)) | (_1 << ((gram >> _12) & _63))
                if bloom[gram >> bloom_shift] & bits == bits:
                    slot = (gram >> _20) & slot_mask
                    while slot_grams[slot] >= 0:
                        if slot_keys[slot] == gram:
                            out_text[found] = text
                            out_position[found] = position - width
                            out_gram[found] = slot_grams[slot]
                            found += 1
                            break
                        slot = (slot + _1) & slot_mask
        if 0 < own < width:
            whole = _0
            for back in range(1, own + 1):
                whole = whole * TOKEN_STEP + ring[(ring_at - back) % width]
            whole += np.uint64(own) * WHOLE_STEP
            slot = (whole >> _20) & slot_mask
            while slot_grams[slot] >= 0:
                if slot_keys[slot] == whole:
                    out_text[found] = text
                    out_position[found] = position - own
                    out_gram[found] = slot_grams[slot]
                    found += 1
                    break
                slot = (slot + _1) & slot_mask
    return found
