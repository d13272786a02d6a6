"""The behavior policy file: what it says, and what is wrong with it, line by line."""

from __future__ import annotations

import pytest

from ftplatform.errors import ProjectError
from ftplatform.project.behavior import load_behavior_policy
from ftplatform.project.problems import ProjectFileError
from ftplatform.targets.habits.policy import Act, CommitmentKind, Policy, parse_amount
from ftplatform_tests.unit.targets.habits.policies import make_policy, read_policy

GOOD = """\
name: support
version: 1.10
authority:
  - action: goodwill credit
    covers: [credit]
    max_amount: 20 USD
    tool: issue_credit
tools:
  issue_credit: {does: [payment]}
  open_ticket: {does: [ticket, escalation]}
queues: [billing team]
apology: {fault_field: fault}
voice: {reference: help-center, forbidden: [no worries]}
rewrites: {commitment: Let me check what I can do.}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ProjectFileError) as caught:
        load_behavior_policy(text.encode(), file="behavior.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_policy_is_read_as_written() -> None:
    policy = Policy.of(load_behavior_policy(GOOD.encode(), file="behavior.yaml").document())
    (line,) = policy.authorities
    assert (line.max_amount, line.currency, line.tool, line.covers) == (20.0, "USD", "issue_credit", {CommitmentKind.CREDIT})
    assert policy.version == "1.10"
    assert policy.tools[1].does == {Act.TICKET, Act.ESCALATION}
    assert policy.apology.fault_field == "fault"
    assert policy.voice.reference == "help-center"


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("max_amount: 20 USD", "max_amount: twenty", "behavior.yaml:6: authority[0].max_amount: 'twenty' is not an amount"),
        (
            "covers: [credit]",
            "covers: [kredit]",
            "behavior.yaml:5: authority[0].covers[0]: 'kredit' is not accepted; did you mean 'credit'?",
        ),
        ("queues:", "quees:", "behavior.yaml:11: quees: unknown key; did you mean 'queues'?"),
        ("    tool: issue_credit", "    tol: issue_credit", "behavior.yaml:7: authority[0].tol: unknown key; did you mean 'tool'?"),
        ("tool: issue_credit", "tool: issue_credits", "which 'tools' does not list; did you mean 'issue_credit'?"),
        ("name: support\n", "", "missing: the key 'name' is required here"),
        ("fault_field: fault", "fault_field: a b", "behavior.yaml:12: apology.fault_field"),
    ],
)
def test_each_problem_names_its_line(wrong: str, right: str, said: str) -> None:
    assert any(said in problem for problem in problems(GOOD.replace(wrong, right))), problems(GOOD.replace(wrong, right))


def test_hostile_yaml_is_refused() -> None:
    assert "tag" in problems("name: !!python/object/apply:os.system [ls]\nversion: 1\n")[0]
    assert problems("- a\n- b\n")


def test_a_pattern_that_does_not_compile_is_named() -> None:
    with pytest.raises(ProjectError, match="not a regular expression"):
        make_policy(apology={"evidence": ["(?=x)"]})


def test_the_digest_follows_every_rule() -> None:
    digests = {
        read_policy("star").digest,
        make_policy().digest,
        make_policy(queues=["a"]).digest,
        make_policy(tools={"a": {"does": ["ticket"]}}).digest,
        make_policy(tools={"a": {"does": ["callback"]}}).digest,
        make_policy(rewrites={"apology": "Thanks."}).digest,
    }
    assert len(digests) == 6
    assert make_policy().digest == make_policy().digest


@pytest.mark.parametrize("text", ["20", "USD 20", "20 usd", "-5 USD", "1e9 USD"])
def test_amounts_have_a_currency(text: str) -> None:
    with pytest.raises(ValueError, match="amount with its currency"):
        parse_amount(text)
