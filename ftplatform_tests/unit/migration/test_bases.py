"""Differences of two bases, without training: real tokenizers with one thing changed each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoTokenizer

from ftplatform.migration.bases import BaseDifferences, BaseFacts, base_differences, measure_tokenizer
from ftplatform_tests.projects import BASE_MODEL

CLOSURE: dict[str, Any] = {"hyperparameters": {"max_tokens": 256}, "human_steps": [], "waivers": []}
CONVERSATION = [{"role": "user", "content": "where is my router"}, {"role": "assistant", "content": "Answer: on its way."}]


def facts(**tokenizer_changes: Any) -> BaseFacts:
    """The bundled base, its tokenizer changed."""
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    for name, value in tokenizer_changes.items():
        setattr(tokenizer, name, value)
    return BaseFacts(
        name="base_models/old",
        snapshot="a" * 64,
        chat_template=tokenizer.chat_template,
        context=1024,
        parameters=1_000_000,
        architecture="LlamaForCausalLM",
        license={"declared": "MIT", "concluded": "MIT", "evidence": "LICENSE", "concluded_by": "counsel"},
        hub="org/model",
        revision="0" * 40,
        passed=("license_declared",),
        tokenizer=measure_tokenizer(tokenizer, [CONVERSATION], rendered=1),
    )


def fields(found: BaseDifferences) -> set[str]:
    return {item.field for item in found.missing}


def test_the_same_base_differs_in_nothing() -> None:
    found = base_differences(facts(), facts(), CLOSURE)
    assert (found.template_changed, found.rendering_changed, list(found.template_diff), list(found.missing)) == (
        False,
        False,
        [],
        [],
    )
    assert found.special_tokens == []


def test_another_token_in_the_same_template_is_another_prompt() -> None:
    """ADV: the hash of the template's text is the same, and the model reads something else."""
    template = "{{ bos_token }}{%- for m in messages -%}{{ m['role'] + m['content'] }}{%- endfor -%}"
    old = facts(chat_template=template, bos_token="<|system|>")
    new = facts(chat_template=template, bos_token="<|user|>")
    assert old.chat_template_sha256 == new.chat_template_sha256, "what a comparison of hashes sees"
    found = base_differences(old, new, CLOSURE)
    assert (found.template_changed, found.rendering_changed) == (False, True)
    assert ("bos_token", "<|system|>", "<|user|>") in found.special_tokens


def test_a_comment_in_the_template_changes_its_text_only() -> None:
    old = facts()
    found = base_differences(old, facts(chat_template="{# reviewed #}" + str(old.chat_template)), CLOSURE)
    assert (found.template_changed, found.rendering_changed) == (True, False)
    assert any(line.startswith("+{# reviewed #}") for line in found.template_diff)


def test_a_template_that_refuses_a_role_is_no_crash() -> None:
    new = facts(chat_template="{{ raise_exception('no such role') }}")
    assert base_differences(facts(), new, CLOSURE).rendering_changed is None


def test_tokens_per_character_counts_texts_alone() -> None:
    measured = facts().tokenizer
    assert measured.characters == sum(len(m["content"]) for m in CONVERSATION)
    expected = sum(len(AutoTokenizer.from_pretrained(BASE_MODEL)(m["content"])["input_ids"]) for m in CONVERSATION)
    assert (measured.tokens, measured.vocabulary) == (expected, 2048)
    assert replace(measured, tokens=0, characters=0).tokens_per_character is None


@pytest.mark.parametrize(
    ("change", "field", "blocks"),
    [
        ({"chat_template": None}, "/base_model/chat_template", True),
        ({"context": 128}, "/hyperparameters/max_tokens", True),
        ({"license": {"declared": "MIT"}}, "base_models: license.concluded", True),
        ({"passed": ()}, "/checks/license_declared", True),
        ({"revision": None}, "/base_model/revision", False),
    ],
)
def test_what_the_closure_has_and_the_new_base_lacks(change: dict[str, Any], field: str, blocks: bool) -> None:
    found = base_differences(facts(), replace(facts(), **change), CLOSURE)
    assert {item.field: item.blocks for item in found.missing}[field] is blocks


def test_steps_by_hand_and_waivers_do_not_move_along() -> None:
    closure = {
        **CLOSURE,
        "human_steps": [{"what": "removed bad rows", "sha256": "0" * 64}],
        "waivers": [{"asset": "base_models/old", "check": "license_allows_use"}, {"asset": "splits/x", "check": "other"}],
    }
    found = base_differences(facts(), facts(), closure)
    assert [item.field for item in found.missing] == ["/human_steps", "/waivers"]
