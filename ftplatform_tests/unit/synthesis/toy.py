"""Toy requests whose topics and styles are set apart."""

from __future__ import annotations

import random

import pyarrow as pa

from ftplatform_tests.tables import asked

TOPICS = {
    "refund": ["refund", "money back", "repayment", "cashback", "chargeback", "reimbursement"],
    "delivery": ["parcel", "delivery", "shipment", "package", "order", "tracking number"],
    "account": ["login", "password", "account", "profile", "username", "two factor code"],
    "billing": ["invoice", "bill", "charge", "payment", "direct debit", "subscription"],
}


def real(rng: random.Random, topic: str) -> str:
    thing = rng.choice(TOPICS[topic])
    text = rng.choice(
        [
            f"hi wheres my {thing}",
            f"i cant find my {thing} and its been 2 weeks also can u check the {thing} from may",
            f"{thing} not working??",
            f"Why is my {thing} still not here",
            f"my {thing} is wrong, pls fix it asap",
            f"so i asked about the {thing} last week but nobody answered",
            f"{thing}",
        ]
    )
    return text.upper() if rng.random() < 0.05 else text


def clean(rng: random.Random, topic: str) -> str:
    thing = rng.choice(TOPICS[topic])
    return rng.choice(
        [
            f"Could you please tell me where my {thing} is?",
            f"I would like to know the status of my {thing}.",
            f"I am having trouble with my {thing}. Could you please help me?",
            f"What is the correct procedure for my {thing}?",
        ]
    )


def sample(seed: int, n: int, write=real, weights: tuple[float, ...] = (1, 1, 1, 1)) -> pa.Table:
    rng = random.Random(seed)
    topics = rng.choices(list(TOPICS), weights, k=n)
    return asked([write(rng, topic) for topic in topics])
