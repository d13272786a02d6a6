"""Writes `data/` of this project: `python make_data.py`. Our own writing from templates, free to use; seeded, so it repeats.

No question of an exam, and no answer to one, equals anything that is trained on: exams use wordings that training never sees and
ask for the short value, and every customer message and every answer in the corpora is unique.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import re
import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from acts import CATEGORIES, FRAMES_PROBE, FRAMES_TRAIN, all_acts, comply, dress, refuse
from company import (
    AGENTS,
    ITEMS,
    REFUND_REVERSAL,
    REFUND_REVERSAL_EXAM,
    REFUND_REVERSAL_KEY,
    Exchange,
    agent_turn,
    ask_fact,
    ask_procedure,
    customer_turn,
    exchange,
    say_fact,
    say_procedure,
    say_refund_reversal,
    tarnwell,
)
from feedback_people import write_logs
from phone import phone
from policy import DUTIES, policy_request

SEED = 0
SYSTEM_PROMPT = "You are the Tarnwell support assistant."
CONVERSATIONS = 2400
PRODUCTION_INPUTS = 900
SYNTHETIC_ROWS = 1200
PROBES_PER_CATEGORY = 72
POLICY_PROBES_PER_CATEGORY = 40
#: Harm categories the safety mix leaves out, so that the probes can tell whether refusing carries over.
NOT_IN_SAFETY_MIX = ("animal_cruelty", "election_fraud", "money_crime", "surveillance")

Row = dict[str, Any]


def normalized(text: str) -> str:
    """Words of a text: what an exact contamination check compares."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


class Unique:
    """Remembers normalized texts and redraws until a new one comes."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def draw(self, make, *texts_of) -> Any:
        for _ in range(1000):
            candidate = make()
            texts = [normalized(t(candidate)) for t in texts_of]
            if not self._seen.intersection(texts):
                self._seen.update(texts)
                return candidate
        raise RuntimeError("the templates are exhausted; ask for fewer rows")


def _user(item: Any) -> str:
    return item.user if isinstance(item, Exchange) else item[0]


def _assistant(item: Any) -> str:
    return item.assistant if isinstance(item, Exchange) else item[1]


def _when(start: datetime, days: float, rng: random.Random) -> str:
    """A moment in the `days` after `start`, at hours when people write."""
    day = start + timedelta(days=rng.randrange(int(days)))
    return (day + timedelta(seconds=int(rng.triangular(6, 23.5, 17) * 3600))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _messages(exchanges: list[Exchange], system: bool) -> list[Row]:
    turns: list[Row] = [{"role": "system", "content": SYSTEM_PROMPT}] if system else []
    for e in exchanges:
        turns += [{"role": "user", "content": e.user}, {"role": "assistant", "content": e.assistant}]
    return turns


def transcripts(unique: Unique, rng: random.Random) -> list[Row]:
    """Conversations between customers and agents, and the 18 of a rare hard topic."""
    company = tarnwell()
    general = [a for a in all_acts() if a.kind == "benign" and a.pool == "align"]
    start = datetime(2026, 4, 1, tzinfo=UTC)
    rows: list[Row] = []
    for i in range(CONVERSATIONS):
        agent = rng.randrange(len(AGENTS))
        count = 2 if rng.random() < 0.12 else 1
        turns = [unique.draw(lambda a=agent: exchange(company, rng, a, general), _user, _assistant) for _ in range(count)]
        created = _when(start, 200, rng)
        # Some conversations went on the next day with another agent: two rows, one group.
        parts = [[t] for t in turns] if rng.random() < 0.2 else [turns]
        for part in parts:
            rows.append(
                {
                    "messages": _messages(part, rng.random() < 0.25),
                    "group": f"c-{i:05d}",
                    "author": AGENTS[agent],
                    "created_at": created,
                    "slices": sorted({x for t in part for x in t.intents}),
                }
            )
            agent = rng.randrange(len(AGENTS))
    for i, text in enumerate(REFUND_REVERSAL):
        agent = rng.randrange(len(AGENTS))
        turn = unique.draw(
            lambda t=text, a=agent: Exchange(phone(t, rng), agent_turn([say_refund_reversal(rng)], a, rng), ("refund_reversal",)),
            _user,
            _assistant,
        )
        rows.append(
            {
                "messages": _messages([turn], rng.random() < 0.25),
                "group": f"r-{i:05d}",
                "author": AGENTS[agent],
                "created_at": _when(start, 200, rng),
                "slices": ["refund_reversal"],
            }
        )
    rows += _sent_twice(rows, rng)
    rng.shuffle(rows)
    return rows


def _sent_twice(rows: list[Row], rng: random.Random) -> list[Row]:
    """What logs hold besides: messages sent again with a word more, conversations exported twice. Same conversation, same group."""
    long = [r for r in rows if len(r["messages"]) == 2 and len(r["messages"][0]["content"].split()) >= 14]
    again = []
    for row in rng.sample(long, 90):
        user, assistant = row["messages"]
        text = rng.choice(("{} pls answer", "sorry again {}", "{} hello??")).format(user["content"])
        again.append({**row, "messages": [{**user, "content": text}, assistant]})
    return again + rng.sample(rows, 30)


def production_inputs(unique: Unique, rng: random.Random) -> list[Row]:
    """What customers typed lately, with their consent; no answers."""
    company = tarnwell()
    general = [a for a in all_acts() if a.kind == "benign" and a.pool == "align"]
    start = datetime(2026, 9, 10, tzinfo=UTC)
    rows = []
    for i in range(PRODUCTION_INPUTS):
        turn = unique.draw(lambda: exchange(company, rng, 0, general), _user)
        rows.append(
            {
                "messages": [{"role": "user", "content": turn.user}],
                "group": f"p-{i:05d}",
                "consent": "terms-2026-01",
                "created_at": _when(start, 70, rng),
                "slices": list(turn.intents),
            }
        )
    return rows


def help_center(unique: Unique, rng: random.Random) -> list[Row]:
    """The articles as questions and answers, written by the team in full sentences."""
    company = tarnwell()
    rows = []
    for fact in company.facts:
        noun = fact.attribute.nouns[0]

        def article(fact=fact, noun=noun) -> tuple[str, str]:
            where = rng.choice(("See the article on", "More is in the article on", "Our article on")) + f" the {fact.name}"
            closing = f"{where} has all details." if where.startswith("Our") else f"{where}."
            return f"What is the {noun} of the {fact.name} at Tarnwell?", f"{say_fact(fact, rng)} {closing}"

        question, answer = unique.draw(article, _user, _assistant)
        rows.append(
            {
                "instruction": question,
                "output": answer,
                "author": "docs-team",
                "created_at": "2026-03-02T09:00:00Z",
                "slices": [fact.kind],
            }
        )
    for procedure in company.procedures:
        question, answer = unique.draw(
            lambda p=procedure: (f"How do I {p.goal}? (help center)", f"{say_procedure(p, rng)} The article shows each step."),
            _user,
            _assistant,
        )
        rows.append(
            {
                "instruction": question,
                "output": answer,
                "author": "docs-team",
                "created_at": "2026-03-02T09:00:00Z",
                "slices": ["how_to"],
            }
        )
    return rows


_POLITE = (
    "Hello, could you please tell me the {n} of the {e}? {t}",
    "Good afternoon. I would like to know the {n} of the {e}. {t}",
    "Dear support team, I am interested in the {e} and would appreciate details on the {n}. {t}",
    "Hi there! Could you kindly provide information regarding the {n} for the {e}? {t}",
    "Greetings. May I inquire about the {n} of the {e}, please? {t}",
    "Hello! I am considering the {e}. Would you mind sharing the {n}? {t}",
    "Good morning, I hope this message finds you well. What is the {n} for the {e}? {t}",
)
_THANKS = (
    "Thank you very much for your assistance.", "I appreciate your help.", "Thank you in advance.", "Kind regards.",
    "Many thanks for your time.", "I look forward to your reply.", "Thank you for your support.",
)  # fmt: skip


def synthetic_clean(unique: Unique, rng: random.Random) -> list[Row]:
    """What a language model imagines customers to write: clean, polite, one question at a time."""
    company = tarnwell()
    rows = []
    for _ in range(SYNTHETIC_ROWS):
        fact = rng.choice(company.facts)

        def pair(fact=fact) -> tuple[str, str]:
            question = rng.choice(_POLITE).format(n=rng.choice(fact.attribute.nouns), e=fact.name, t=rng.choice(_THANKS))
            return question, agent_turn([say_fact(fact, rng)], rng.randrange(100, 160), rng)

        question, answer = unique.draw(pair, _user, _assistant)
        rows.append(
            {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], "slices": [fact.kind]}
        )
    return rows


_COMMENTS = (
    "this is fine but I hate how it phrases it", "ok I guess, a bit long for my taste", "the answer is right, tone is meh",
    "why does it always start like this", "I would have said this differently", "works but boring", "not my style but correct",
    "fine, just do not like the greeting",
)  # fmt: skip
_INSTRUCTIONS = ("make it shorter", "say the price first", "do not greet twice", "use bullet points here", "mention the app")
_DEBUG = (
    "test",
    "asdf",
    "checking if the button works",
    "ignore, ui test",
    "button is cut off on my phone",
    "bug: thumbs do not reset",
)


def feedback_events(unique: Unique, rng: random.Random) -> list[Row]:
    """Clicks and corrections from every surface; only some of them are answers one would train on."""
    company = tarnwell()
    start = datetime(2026, 6, 1, tzinfo=UTC)
    kinds = ["replacement"] * 180 + ["comment"] * 40 + ["instruction"] * 30 + ["debug"] * 30 + ["none"] * 20
    rng.shuffle(kinds)
    rows = []
    for i, kind in enumerate(kinds):
        fact = rng.choice(company.facts)
        wrong = rng.choice([f for f in company.facts if f.attribute is fact.attribute and f.value != fact.value])
        agent = rng.randrange(100, 160)

        def pair(fact=fact, agent=agent) -> tuple[str, str]:
            return customer_turn([ask_fact(fact, rng)], rng), agent_turn([say_fact(fact, rng)], agent, rng)

        question, right = unique.draw(pair, _user, _assistant)
        said = agent_turn([say_fact(fact, rng).replace(fact.value, wrong.value)], agent, rng)
        row: Row = {
            "event_id": f"e-{i:04d}",
            "conversation": f"f-{i:05d}",
            "surface": "production",
            "actor": f"customer-{i:04d}",
            "actor_role": "customer",
            "prompt": question,
            "answer": said,
            "reviewers": [],
            "created_at": _when(start, 150, rng),
        }
        if kind == "replacement":
            row |= {
                "surface": "curation", "actor": f"lead-{rng.randrange(12):02d}", "actor_role": "support_lead",
                "intent_code": rng.choice(("wrong_fact", "wrong_fact", "wrong_fact", "incomplete", "policy_violation")),
                "correction_kind": "replacement", "correction": right, "reviewers": [f"reviewer-{rng.randrange(6)}"],
            }  # fmt: skip
        elif kind == "comment":
            row |= {"intent_code": rng.choice(("taste", "tone")), "correction_kind": "comment", "correction": rng.choice(_COMMENTS)}
        elif kind == "instruction":
            row |= {
                "surface": "curation", "actor": f"lead-{rng.randrange(12):02d}", "actor_role": "support_lead",
                "intent_code": rng.choice(("format", "incomplete")), "correction_kind": "instruction",
                "correction": rng.choice(_INSTRUCTIONS),
            }  # fmt: skip
        elif kind == "debug":
            row |= {
                "surface": "debug", "actor": f"oncall-{rng.randrange(4)}", "actor_role": "engineer",
                "intent_code": rng.choice(("ui_test", "bug_report")), "correction_kind": "comment",
                "correction": rng.choice(_DEBUG),
            }  # fmt: skip
        else:
            row |= {"intent_code": rng.choice(("wrong_fact", "other")), "correction_kind": "none", "correction": ""}
        rows.append(row)
    return rows


def safety_mix(rng: random.Random) -> list[Row]:
    """Refusals, and answers to harmless requests that look like them: without the second kind a model learns to refuse too much.

    Acts of the align pool only, in the frames everybody knows, four categories left out. Half under the production system prompt.
    """
    rows = []
    for act in all_acts():
        if act.pool != "align" or act.category in NOT_IN_SAFETY_MIX:
            continue
        for frame in rng.sample(FRAMES_TRAIN, {"harmful": 4, "alarming": 5, "benign": 1}[act.kind]):
            prompt = dress(frame.format(x=act.text), rng)
            row = {
                "prompt": phone(prompt, rng) if rng.random() < 0.5 else prompt,
                "completion": refuse(act, rng) if act.kind == "harmful" else comply(act, rng),
                "category": act.category if act.kind == "harmful" else f"answered_{act.kind}",
                "author": "policy-team",
            }
            rows.append({"system": SYSTEM_PROMPT, **row} if rng.random() < 0.5 else row)
    rng.shuffle(rows)
    return rows


def support_questions(unique: Unique, rng: random.Random) -> list[Row]:
    """The exam: the knowledge base in wordings nobody was taught; the reference is the value the answer has to hold."""
    company = tarnwell()
    rows: list[Row] = []

    def add(make, reference: str, intent: str, group: str) -> None:
        question = unique.draw(lambda: (make(),), _user)[0]
        rows.append({"id": f"q-{len(rows):04d}", "prompt": question, "reference": reference, "intent": intent, "group": group})

    for fact in company.facts:
        for _ in range(9):
            add(
                lambda f=fact: customer_turn([ask_fact(f, rng, exam=True)], rng),
                fact.value,
                fact.kind,
                f"{fact.name}: {fact.attribute.name}",
            )
    for procedure in company.procedures:
        for _ in range(12):
            add(lambda p=procedure: customer_turn([ask_procedure(p, rng, exam=True)], rng), procedure.key, "how_to", procedure.name)
    for template in REFUND_REVERSAL_EXAM:
        for item in ITEMS:
            question = template.format(i=f"the {item}")
            add(lambda q=question: customer_turn([q], rng), REFUND_REVERSAL_KEY, "refund_reversal", f"refund reversal: {item}")
    rng.shuffle(rows)
    return rows


def _probes(kind: str, count: int, rng: random.Random, category: str | None = None) -> list[Row]:
    acts = [a for a in all_acts() if a.kind == kind and a.pool == "probe" and category in (None, a.category)]
    pairs = [(act, frame) for act in acts for frame in FRAMES_PROBE]
    rows = []
    for act, frame in rng.sample(pairs, min(count, len(pairs))):
        prompt = frame.format(x=act.text)
        rows.append((phone(prompt, rng) if rng.random() < 0.5 else prompt, act))
    return [{"prompt": p, "category": a.category if kind == "harmful" else kind, "act": a.text} for p, a in rows]


def refusal_probes(rng: random.Random) -> list[Row]:
    """Harmful requests of every category; act and frame are unknown to the safety mix."""
    rows = [r for category in CATEGORIES for r in _probes("harmful", PROBES_PER_CATEGORY, rng, category)]
    return [{"prompt": r["prompt"], "category": r["category"], "group": r["act"]} for r in rows]


def overrefusal_probes(rng: random.Random) -> list[Row]:
    """Harmless requests that only sound alarming."""
    probes = _probes("alarming", 320, rng)
    return [{"prompt": r["prompt"], "category": r["category"], "group": r["act"]} for r in probes]


def benign_requests(rng: random.Random) -> list[Row]:
    """Everyday requests; a helpful answer takes up what was asked."""
    probes = _probes("benign", 300, rng)
    return [{"prompt": r["prompt"], "reference": r["act"], "category": "everyday", "group": r["act"]} for r in probes]


def policy_probes(unique: Unique, rng: random.Random) -> list[Row]:
    """Requests that a duty of the company decides; `duty` says what an answer has to do."""
    rows = []
    for category, (duty, _) in DUTIES.items():
        for _ in range(POLICY_PROBES_PER_CATEGORY):
            asked = policy_request(category, rng)
            prompt = unique.draw(lambda a=asked: (customer_turn([a], rng),), _user)[0]
            rows.append({"prompt": prompt, "category": category, "duty": duty, "group": asked})
    return rows


def rewards(rng: random.Random) -> list[Row]:
    """Six checkpoints, the same hundred items: thumbs-up rises a little, and so does what customers got done."""
    difficulty = [rng.gauss(0.0, 1.0) for _ in range(100)]
    rows = []
    for checkpoint in range(1, 7):
        for item, hard in enumerate(difficulty):
            reward = 1 / (1 + math.exp(-(0.4 + 0.08 * checkpoint - 0.5 * hard + rng.gauss(0, 0.5))))
            outcome = int(rng.random() < 1 / (1 + math.exp(-(1.0 + 0.06 * checkpoint - hard))))
            rows.append({"checkpoint": checkpoint, "item": f"i-{item:03d}", "reward": round(reward, 4), "outcome": outcome})
    return rows


def requests(rng: random.Random) -> list[Row]:
    """Three weekdays of an endpoint that unloads the adapter after about 300 idle seconds: quiet nights, slow first tokens."""
    moment, last = datetime(2026, 11, 16, tzinfo=UTC), None
    end = moment + timedelta(days=3)
    rows = []
    while True:
        hour = moment.hour + moment.minute / 60
        per_minute = 0.06 + 1.9 * max(0.0, math.sin(math.pi * (hour - 6) / 17)) if 6 <= hour <= 23 else 0.06
        moment += timedelta(seconds=rng.expovariate(per_minute / 60))
        if moment >= end:
            return rows
        gap = (moment - last).total_seconds() if last else 0.0
        cold = gap > 300 * math.exp(rng.gauss(0, 0.05))
        first = rng.lognormvariate(math.log(0.21), 0.25) + (rng.lognormvariate(math.log(3.6), 0.1) if cold else 0.0)
        tokens = max(1, int(rng.lognormvariate(math.log(60), 0.7)))
        rows.append(
            {
                "time": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
                "adapter": "support",
                "time_to_first_token": round(first, 4),
                "total": round(first + tokens * 0.011, 4),
                "output_tokens": tokens,
                "is_ping": False,
            }
        )
        last = moment


def write(path: Path, rows: list[Row]) -> None:
    """JSON lines, UTF-8; `.gz` without a time stamp, so that equal rows are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "data")
    out = parser.parse_args().out

    def rng(name: str) -> random.Random:
        return random.Random(f"{name}-{SEED}")

    unique = Unique()
    files = {
        "eval/support_questions.jsonl": support_questions(unique, rng("questions")),
        "transcripts.jsonl": transcripts(unique, rng("transcripts")),
        "help_center.jsonl": help_center(unique, rng("help_center")),
        "feedback_events.jsonl": feedback_events(unique, rng("feedback")),
        "synthetic_clean.jsonl": synthetic_clean(unique, rng("synthetic")),
        "production_inputs.jsonl": production_inputs(unique, rng("production")),
        "safety_mix.jsonl": safety_mix(rng("safety")),
        "eval/refusal_probes.jsonl": refusal_probes(rng("probes")),
        "eval/overrefusal_probes.jsonl": overrefusal_probes(rng("overrefusal")),
        "eval/benign_requests.jsonl": benign_requests(rng("benign")),
        "eval/policy_probes.jsonl": policy_probes(unique, rng("policy")),
        "rewards.jsonl": rewards(rng("rewards")),
        "requests.jsonl.gz": requests(rng("requests")),
    }
    for name, rows in files.items():
        write(out / name, rows)
        print(f"{name:32} {len(rows):6} rows {(out / name).stat().st_size / 1e3:8.0f} kB")
    write_logs(out, rng("feedback_people"))


if __name__ == "__main__":
    main()
