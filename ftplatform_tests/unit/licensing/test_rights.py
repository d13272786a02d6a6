"""The algebra of permissions: laws, and what travels along edges."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.licensing.expressions import parse_license, simplified
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.rights import (
    ALL_ALLOWED,
    ALL_DENIED,
    ALL_UNKNOWN,
    USES,
    EdgeRole,
    Level,
    Permission,
    Rights,
    Use,
    all_of,
    allow,
    any_of,
    deny,
    transfer,
    unknown,
)
from ftplatform.project import models

atoms = st.one_of(
    st.just(allow()),
    st.just(unknown()),
    st.just(deny()),
    st.sets(st.sampled_from(["attribution", "share_alike", "notice", "prefix"]), min_size=1, max_size=3).map(lambda s: allow(*s)),
)
permissions = st.recursive(
    atoms, lambda inner: st.tuples(inner, inner, st.booleans()).map(lambda t: t[0] & t[1] if t[2] else t[0] | t[1]), max_leaves=6
)


def test_uses_are_those_of_the_project_file() -> None:
    assert [str(use) for use in USES] == [str(use) for use in models.Use]


def test_order_of_levels() -> None:
    assert Level.ALLOW < Level.ALLOW_IF < Level.UNKNOWN < Level.DENY
    assert [level.usable for level in Level] == [True, True, False, False]


@settings(max_examples=150, deadline=None)
@given(permissions, permissions, permissions)
def test_lattice_laws(a: Permission, b: Permission, c: Permission) -> None:
    for op in (Permission.__and__, Permission.__or__):
        assert op(a, b) == op(b, a)
        assert op(a, op(b, c)) == op(op(a, b), c)
        assert op(a, a) == a
    assert a & (a | b) == a
    assert a | (a & b) == a
    assert a & (b | c) == (a & b) | (a & c)
    assert a | (b & c) == (a | b) & (a | c)
    assert a & allow() == a
    assert a | deny() == a
    assert a & deny() == deny()
    assert a | allow() == allow()


@settings(max_examples=150, deadline=None)
@given(permissions, permissions)
def test_and_is_the_maximum_and_never_loosens(a: Permission, b: Permission) -> None:
    assert (a & b).level == max(a.level, b.level)
    assert (a | b).level == min(a.level, b.level)


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_and_collects_obligations(a: set[str], b: set[str]) -> None:
    assert (allow(*a) & allow(*b)).obligations == tuple(sorted(a | b))


def test_keeping_one_branch_per_or_breaks_absorption_and_this_does_not() -> None:
    """The obvious representation, one obligation set and the lightest branch at every OR, changes verdicts on simplification."""

    def naive_or(x: frozenset[str], y: frozenset[str]) -> frozenset[str]:
        return min(x, y, key=lambda s: (len(s), sorted(s)))

    a, b = frozenset({"share_alike"}), frozenset({"attribution"})
    assert (a | naive_or(a, b)) != a  # A AND (A OR B) came out heavier than A
    assert (allow("share_alike") & (allow("share_alike") | allow("attribution"))) == allow("share_alike")


KEYS = ["MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "GPL-3.0-only", "LicenseRef-Nobody-Knows", "CC0-1.0"]
expressions = st.recursive(
    st.sampled_from(KEYS),
    lambda inner: st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_verdict_of_an_expression_is_that_of_its_simplification(text: str) -> None:
    policy = default_policy()
    parsed = parse_license(text)
    assert parsed.expression is not None
    assert policy.rights(parsed) == policy.rights(parse_license(simplified(parsed.expression)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), st.sampled_from(KEYS))
def test_another_parent_never_loosens_and_another_origin_never_tightens(keys: list[str], extra: str) -> None:
    policy = default_policy()
    rights = [policy.rights(parse_license(key)) for key in keys]
    more = policy.rights(parse_license(extra))
    assert all_of([*rights, more]).at_least_as_strict_as(all_of(rights))
    assert any_of(rights).at_least_as_strict_as(any_of([*rights, more]))


def test_neutral_elements() -> None:
    assert all_of([]) == ALL_ALLOWED
    assert any_of([]) == ALL_DENIED
    assert all_of([ALL_UNKNOWN, ALL_DENIED]) == ALL_DENIED
    assert any_of([ALL_UNKNOWN, ALL_ALLOWED]) == ALL_ALLOWED


@pytest.mark.parametrize("role", list(EdgeRole))
def test_no_role_loosens_what_it_carries(role: EdgeRole) -> None:
    """Whatever a role carries over is at least as strict as in the parent; what it does not carry is exactly what its doc says."""
    not_carried = {
        EdgeRole.REWARD_MODEL: {Use.EVALUATE, Use.REDISTRIBUTE_DATA, Use.REDISTRIBUTE_WEIGHTS, Use.TEACHER},
        EdgeRole.SELECTION: set(USES),
        EdgeRole.EVALUATES: set(USES) - {Use.EVALUATE},
    }.get(role, set())
    for levels in itertools.product((allow(), allow("attribution"), unknown(), deny()), repeat=2):
        parent = Rights.of({Use.TEACHER: levels[0]}, levels[1])
        child = transfer(role, parent)
        for use in USES:
            if use in not_carried:
                assert child[use] == allow()
            else:
                assert child[use].level >= parent[use].level


def test_a_teacher_passes_on_its_terms_for_outputs() -> None:
    llama2 = default_policy().rights(parse_license("llama2"))
    assert llama2[Use.TRAIN].usable  # tuning it is fine ...
    child = transfer(EdgeRole.TEACHER, llama2)
    assert child.refused([Use.TRAIN]) == [Use.TRAIN]  # ... training on what it wrote is not
    assert child.refused([Use.EVALUATE]) == []


def test_too_many_alternatives_only_tighten() -> None:
    wide = any_of(Rights.all(allow(f"a{i}")) for i in range(12)) & any_of(Rights.all(allow(f"b{i}")) for i in range(12))
    assert wide[Use.TRAIN].level is Level.ALLOW_IF
    assert len(wide[Use.TRAIN].alternatives) == 64
    assert all(len(alternative) == 2 for alternative in wide[Use.TRAIN].alternatives)
