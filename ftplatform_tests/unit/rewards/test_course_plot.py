"""The chart of a loop: both lines, their intervals, the distance beneath."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from ftplatform.rewards.course_plot import course_plot
from ftplatform.rewards.ledger import REWARD_SCHEMA, per_checkpoint
from ftplatform_tests.unit.rewards.ledgers import ledger

SVG = "{http://www.w3.org/2000/svg}"


def drawn(reward: np.ndarray, outcome: np.ndarray | None = None, kl: list[float] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(course_plot(per_checkpoint(ledger(outcome, reward, kl=kl))))


def test_two_lines_two_ribbons_and_the_kl() -> None:
    rng = np.random.default_rng(0)
    root = drawn(rng.random((50, 6)), rng.random((50, 6)), [0.0, 0.1, 0.4, 0.9, 1.6, 2.5])
    paths = root.findall(f"{SVG}path")
    assert len([p for p in paths if p.get("fill") != "none"]) == 2, "ribbons"
    assert len([p for p in paths if p.get("fill") == "none"]) == 3, "reward, outcome, KL"
    assert len(root.findall(f"{SVG}circle")) == 18
    text = "".join(root.itertext())
    assert "KL in nats from 0 to 2.5 over 6 checkpoints" in text


def test_a_reward_beyond_one_has_an_axis_of_its_own() -> None:
    rng = np.random.default_rng(1)
    text = "".join(drawn(100 * rng.random((50, 4)), rng.random((50, 4))).itertext())
    assert "share" not in text
    assert "outcome" in text


def test_parts_that_are_missing_are_not_drawn() -> None:
    root = drawn(np.random.default_rng(2).random((50, 4)))
    assert len(root.findall(f"{SVG}circle")) == 4
    one = drawn(np.ones((1, 1)))
    assert len(one.findall(f"{SVG}circle")) == 1
    assert "No data" in course_plot(per_checkpoint(REWARD_SCHEMA.empty_table()))
