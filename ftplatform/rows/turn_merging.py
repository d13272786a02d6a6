"""Merging of consecutive turns of one speaker, for formats that store utterances and not turns."""

from __future__ import annotations

from collections.abc import Sequence

from ftplatform.rows.records import Message
from ftplatform.rows.schema import Role

_MERGED_ROLES = (Role.USER, Role.ASSISTANT)


def merge_turns(messages: Sequence[Message], separator: str = "\n") -> list[Message]:
    """Joins user turns that follow each other, and assistant turns likewise; tool and system turns stay apart.

    Blank turns between others say nothing and disappear in the merge; a turn keeps its mask only if its neighbor has the same
    one, so a masked utterance is never trained on by accident.
    """
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        same = last is not None and last.role is message.role and last.trainable == message.trainable
        if last is not None and same and message.role in _MERGED_ROLES:
            parts = [text for text in (last.content, message.content) if text.strip()]
            merged[-1] = Message(last.role, separator.join(parts) or last.content, last.trainable)
        else:
            merged.append(message)
    return merged
