"""Row identity: the fast serialization is the RFC 8785 form, and identity is exactly the text and who said it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftplatform.canonical import digest
from ftplatform.rows.schema import Role, row_id

# Control characters, quotes, line separators, non-characters and characters beyond the BMP are where serializers differ.
text = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from('"\\/\x00\x07\x1f\x7f\u2028\u2029\ufeff\uffff\U0001f600\U0010ffff')
)
message = st.fixed_dictionaries({"role": st.sampled_from(Role), "content": text, "trainable": st.booleans()})


@settings(deadline=None)
@given(st.lists(message, max_size=5))
@example([{"role": Role.USER, "content": "".join(chr(c) for c in range(0x20)), "trainable": False}])
def test_identity_is_the_digest_of_the_canonical_form(messages):
    reference = digest([{"role": str(m["role"]), "content": m["content"]} for m in messages])
    assert row_id(messages) == reference


def conversation(**changes: Any) -> list[dict[str, Any]]:
    first = {"role": "user", "content": "where is my refund", "trainable": False} | changes
    return [first, {"role": "assistant", "content": "On its way.", "trainable": True}]


def test_what_changes_identity_and_what_does_not():
    original = row_id(conversation())
    assert re.fullmatch(r"[0-9a-f]{64}", original)
    assert row_id(conversation(trainable=True)) == original  # a mask says how a text is used, not which it is
    assert row_id(conversation(role=Role.USER)) == original
    assert row_id([dict(reversed(m.items())) for m in conversation()]) == original
    assert row_id(iter(conversation())) == original
    assert row_id(conversation(content="where is my refund ")) != original
    assert row_id(conversation(content="Where is my refund")) != original
    assert row_id(conversation(role="system")) != original
    assert row_id(list(reversed(conversation()))) != original
    assert row_id(conversation()[:1]) != original


def test_unicode_is_not_normalized():
    # A takedown by hash must find the bytes it names; folding forms is the business of deduplication.
    assert row_id(conversation(content="caf\u00e9")) != row_id(conversation(content="cafe\u0301"))


@pytest.mark.parametrize("content", ["\ud800", "ok \udfff"])
def test_a_lone_surrogate_has_no_identity(content):
    with pytest.raises(ValueError, match="not valid Unicode"):
        row_id(conversation(content=content))
