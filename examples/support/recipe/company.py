"""Tarnwell, an invented seller of home internet and smart-home gear: what it knows, and how its support talks.

Facts are short values (``40 megabits``), so an exam can ask for the value while training answers are sentences.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from acts import FRAMES_PROBE, FRAMES_TRAIN, Act, comply
from phone import phone

PLANS = ("Brook", "Stream", "River", "Delta")
ITEMS = ("router", "mesh extender", "doorbell camera", "thermostat", "smart plug")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One kind of fact: its values, nouns for it, question frames (taught / exam only) and answer sentences."""

    name: str
    values: tuple[str, ...]
    nouns: tuple[str, ...]
    ask: tuple[str, ...]
    ask_exam: tuple[str, ...]
    answer: tuple[str, ...]


PLAN_ATTRIBUTES = (
    Attribute(
        "price",
        ("$19 a month", "$27 a month", "$34 a month", "$46 a month"),
        ("price", "monthly cost", "monthly bill"),
        (
            "how much is {e}",
            "what does {e} cost per month",
            "what would i pay for {e} every month",
            "how much will you charge me for {e}",
        ),
        ("what will {e} set me back each month", "is {e} expensive, what is the monthly rate"),
        ("{E} costs {v}.", "You pay {v} on {e}.", "The bill for {e} is {v}."),
    ),
    Attribute(
        "speed",
        ("40 megabits", "120 megabits", "300 megabits", "500 megabits"),
        ("speed", "download speed", "top speed"),
        ("how fast is {e}", "what speed do i get with {e}", "how many megabits does {e} have", "is {e} quick, what speed is it"),
        ("how quick are downloads on {e}", "what rate does {e} download at"),
        ("{E} runs at {v}.", "You get {v} with {e}.", "The speed of {e} is {v}."),
    ),
    Attribute(
        "contract",
        ("6 months", "12 months", "18 months", "24 months"),
        ("contract length", "minimum term", "contract"),
        (
            "how long is the contract for {e}",
            "how long am i tied to {e}",
            "what is the shortest term for {e}",
            "how many months do i sign for with {e}",
        ),
        ("for how long would {e} lock me in", "when would i be free to leave {e}"),
        ("{E} runs for {v}.", "The contract for {e} is {v}.", "You sign for {v} with {e}."),
    ),
    Attribute(
        "notice",
        ("7 days", "10 days", "14 days", "21 days"),
        ("notice period", "cancellation notice", "notice"),
        (
            "how much notice do you need to end {e}",
            "how early must i cancel {e}",
            "when do i have to tell you that i cancel {e}",
            "what notice does {e} have",
        ),
        ("how far ahead do i write if i quit {e}", "how late may i call off {e}"),
        ("{E} needs {v} of notice.", "Tell us {v} ahead to end {e}.", "The notice for {e} is {v}."),
    ),
)

ITEM_ATTRIBUTES = (
    Attribute(
        "price",
        ("$89", "$64", "$129", "$112", "$18"),
        ("price", "cost", "list price"),
        ("how much is {e}", "what does {e} cost", "what do you want for {e}", "how much would i pay for {e}"),
        ("what will {e} set me back", "is {e} expensive, what do i pay"),
        ("{E} costs {v}.", "You pay {v} for {e}.", "The price of {e} is {v}."),
    ),
    Attribute(
        "warranty",
        ("2 years", "3 years", "4 years", "5 years", "6 years"),
        ("warranty", "guarantee", "warranty period"),
        (
            "how long is the warranty on {e}",
            "how many years of warranty does {e} have",
            "until when is {e} covered",
            "does {e} have a warranty and for how long",
        ),
        ("if {e} dies, how long am i covered", "for what time do you repair {e} free"),
        ("{E} has a warranty of {v}.", "The warranty on {e} is {v}.", "We cover {e} for {v}."),
    ),
    Attribute(
        "returns",
        ("15 days", "20 days", "30 days", "40 days", "60 days"),
        ("return window", "return period", "return time"),
        (
            "how long can i return {e}",
            "how many days do i have to send back {e}",
            "until when can i bring back {e}",
            "what is the last day to return {e}",
        ),
        ("i changed my mind on {e}, how long may i wait", "by when must {e} be back with you"),
        ("You can return {e} within {v}.", "The return window for {e} is {v}.", "Send {e} back within {v}."),
    ),
)

_NOUN_ASK = (
    "what is the {n} of {e}", "can you tell me the {n} for {e}", "whats the {n} on {e}", "i am looking for the {n} of {e}",
    "{e}, what is the {n}", "do you have the {n} for {e}",
)  # fmt: skip
_NOUN_ASK_EXAM = ("i cant find the {n} for {e} anywhere", "could someone confirm the {n} on {e}", "need to know the {n} with {e}")


@dataclass(frozen=True, slots=True)
class Procedure:
    """A how-to of the help center. `key` is the step an exam looks for; `ask_exam` are wordings never taught."""

    name: str
    goal: str
    steps: tuple[str, str, str]
    ask_exam: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.steps[0]


PROCEDURES = (
    Procedure(
        "reset_router",
        "reset the router",
        ("hold the pin for ten seconds", "wait for the green light", "sign in again"),
        ("router is acting up and i want it back to factory state", "get my router back to a fresh start"),
    ),
    Procedure(
        "change_wifi",
        "change the wifi password",
        ("open network in the app", "type a new password", "tap save"),
        ("my wifi code leaked, i need a new one", "put another passcode on my wifi"),
    ),
    Procedure(
        "pair_camera",
        "pair the doorbell camera",
        ("scan the code inside the cover", "pick your wifi", "press the bell once"),
        ("new doorbell camera wont join, how to connect it", "hook up my doorbell camera to the app"),
    ),
    Procedure(
        "move_address",
        "move my plan to a new address",
        ("open moving in your account", "enter the new address", "choose a start date"),
        ("we move house soon, how does my plan come along", "take my internet to another flat"),
    ),
    Procedure(
        "cancel_plan",
        "cancel my plan",
        ("open contract in your account", "choose end contract", "confirm by mail"),
        ("i want out, how do i end this plan", "stop my subscription for good"),
    ),
    Procedure(
        "return_item",
        "return an item",
        ("print the label from your order", "pack it with the receipt", "drop it at a parcel shop"),
        ("this thing is not for me, how do i ship it back", "give back something i bought"),
    ),
    Procedure(
        "update_card",
        "update my card",
        ("open billing in your account", "tap replace card", "enter the new number"),
        ("my bank sent a new card, where do i put it in", "swap the card you charge"),
    ),
    Procedure(
        "get_invoice",
        "download an invoice",
        ("open documents in your account", "pick the month", "tap download"),
        ("my boss wants a bill for march, where is it", "find a pdf of my bill"),
    ),
)
_PROCEDURE_ASK = (
    "how do i {x}", "how can i {x}", "i want to {x}", "can you help me {x}", "what do i do to {x}", "need to {x}",
    "where can i {x}",
    "tell me how to {x}", "please help me {x}",
)  # fmt: skip
_PROCEDURE_ASK_EXAM = (
    "whats the way to {x}", "show me where i {x}", "i tried to {x} and failed, what is right", "steps to {x}",
    "is there a trick to {x}",
    "someone has to explain how i {x}",
)  # fmt: skip
_PROCEDURE_ANSWER = (
    "To {x}, {a}, then {b}, and {c}.", "First {a}. Then {b} and {c}.", "It takes three steps: {a}, {b}, and {c}.",
)  # fmt: skip

#: The rare hard topic: money that came back was taken again. Angry, indirect, each in its own words.
REFUND_REVERSAL = (
    "you gave me my money back on monday and today it is gone again, what is this",
    "so the refund showed up and then you people TOOK IT BACK?? explain",
    "my bank says the return payment from you was reversed, second time now, im done",
    "why did the 64 dollars refund vanish from my account again",
    "refund for the thermostat was there friday, sunday it bounced out of my account",
    "i sent the camera back, got paid, then got charged for it again. thieves",
    "how can a refund be undone a week later? i already spent that money",
    "your refund got pulled back out of my card and nobody tells me why",
    "first the refund, then a debit with the same amount, are you kidding me",
    "refund sent and then un-sent, order 51877, fix it",
    "the refund for my smart plugs disappeared again overnight, i have screenshots",
    "explain to me why i am paying twice for a router i do not even have any more",
    "you clawed the refund back!! the parcel shop has my signature",
    "got mail that my refund is cancelled although you have the extender since may",
    "refund reversed, no reason given, third agent i ask",
    "my refund came and went. where is it now",
    "i see plus 129 and then minus 129 from you, what happened to my refund",
    "a refund is not a loan, why did you take it again",
)
REFUND_REVERSAL_EXAM = (
    "my refund for {i} left my account again",
    "the refund on {i} was undone, why",
    "refund for {i} came and now you debited it again",
    "my refund for {i} got reversed by you without a word",
    "why is the refund for {i} gone again",
    "who took the refund for {i} back",
    "{i} refund bounced, what now",
    "second time that the refund for {i} disappears",
)
_REFUND_REASON = ("the depot did not scan the parcel", "the parcel was not scanned at the depot", "no scan came in from the depot")
_REFUND_ANSWER = (
    "The refund was reversed because {r}. Send us the drop-off receipt and we pay it again.",
    "It was taken back since {r}. With the drop-off receipt we pay it again.",
    "That happens when {r}. Please send the drop-off receipt, then it is paid again.",
)
REFUND_REVERSAL_KEY = "drop-off receipt"

AGENTS = (
    "agent-ana", "agent-bo", "agent-carla", "agent-dev", "agent-eli", "agent-fay", "agent-gus", "agent-hana", "agent-ivo",
    "agent-june",
    "agent-kofi", "agent-lea", "agent-mara", "agent-nils",
)  # fmt: skip
_OPENERS = (
    "Sure.", "Of course.", "Happy to help.", "Thanks for asking.", "Good question.", "Here you go.", "Hi, thanks for writing.",
    "Yes, gladly.",
    "Let me look.", "Hello from Tarnwell.", "Glad you asked.", "No problem.", "Got it.", "Right away.", "Thanks for your message.",
    "Hi there.", "Hello.", "Certainly.", "With pleasure.", "I checked for you.",
)  # fmt: skip
_CLOSERS = (
    "", "", "Anything else?", "Let me know if that works.", "Have a good day.", "Write again any time.", "Hope that helps.",
    "Is there more I can do?", "Take care.", "Enjoy your day.", "Feel free to ask more.", "Thanks for being with us.",
    "All the best.",
    "That is all you need.", "Just ask if it is unclear.", "Bye for now.",
)  # fmt: skip

_GREET = ("hi", "hello", "hey", "hi there", "good morning", "hey guys", "hello team", "hi tarnwell", "evening", "excuse me")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WHO = ("my mom", "my son", "my wife", "my husband", "a friend", "my neighbor", "my boss", "my sister", "grandpa", "my roommate")
_CONTEXT = (
    "i ordered on {day}", "my order is {num}", "i moved in last {day}", "this is for {who}", "{who} told me to ask",
    "i am customer {num}",
    "i wrote you on {day} already", "i have been with you for {small} years", "i am at work and it is urgent",
    "the site is down since {day}",
    "i waited {small} hours on the phone", "{who} has the same thing", "the box came on {day}", "i read your page twice",
    "ticket {num} is still open", "we are {small} people here", "my street is number {small}", "i got your mail from {day}",
)  # fmt: skip
_URGE = (
    "please",
    "thanks",
    "asap please",
    "thank you",
    "need it today",
    "its important",
    "thanks in advance",
    "please be quick",
    "cheers",
)
_JOIN = (" and also ", ", also ", ". and ", " and ", "? and ", " btw ", ". oh and ")
_PRIVATE = ("my mail is {name}{num}@example.com", "call me on 555 01{two}", "i am {name}.{num}@example.org")
_NAMES = ("rosa", "tim", "aisha", "viktor", "jo", "mei", "pat", "lars", "nina", "omar")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the knowledge base."""

    kind: str  # "plan_fact" | "item_fact"
    entity: str
    attribute: Attribute
    value: str

    @property
    def name(self) -> str:
        return self.entity if self.kind == "item_fact" else f"{self.entity} plan"


@dataclass(frozen=True, slots=True)
class Company:
    """A knowledge base: facts, how-tos and the name in the greeting."""

    facts: tuple[Fact, ...]
    procedures: tuple[Procedure, ...]


def _facts(values_of) -> tuple[Fact, ...]:
    facts = []
    for kind, entities, attributes in (("plan_fact", PLANS, PLAN_ATTRIBUTES), ("item_fact", ITEMS, ITEM_ATTRIBUTES)):
        for attribute in attributes:
            for entity, value in zip(entities, values_of(attribute), strict=True):
                facts.append(Fact(kind, entity, attribute, value))
    return tuple(facts)


def tarnwell(seed: int = 0) -> Company:
    """The company of the bundled project: values dealt once per attribute, so none can be guessed from the order."""
    rng = random.Random(f"tarnwell-{seed}")
    return Company(_facts(lambda a: rng.sample(a.values, len(a.values))), PROCEDURES)


def somebody_else(rng: random.Random) -> Company:
    """A company as pretraining sees it: the same kinds of facts with values drawn anew, so the base learns the form and no fact."""
    steps = [step for p in PROCEDURES for step in p.steps]
    procedures = tuple(
        Procedure(p.name, p.goal, (rng.choice(steps), rng.choice(steps), rng.choice(steps)), p.ask_exam) for p in PROCEDURES
    )
    return Company(_facts(lambda a: [rng.choice(a.values) for _ in a.values]), procedures)


# --- what customers ask ---------------------------------------------------------------------------------------------------------


def _mention(fact: Fact, rng: random.Random) -> str:
    if fact.kind == "item_fact":
        return rng.choice(("the {}", "the {}", "your {}", "a {}")).format(fact.entity)
    return rng.choice(("{}", "the {} plan", "the {} plan", "your {} plan", "plan {}")).format(fact.entity)


def ask_fact(fact: Fact, rng: random.Random, *, exam: bool = False) -> str:
    """A question about one fact, without capitals or full stop; with `exam`, in a wording that training never uses."""
    mention = _mention(fact, rng)
    if rng.random() < 0.5:
        frames = fact.attribute.ask_exam if exam else fact.attribute.ask
        return rng.choice(frames).format(e=mention)
    frames = _NOUN_ASK_EXAM if exam else _NOUN_ASK
    return rng.choice(frames).format(e=mention, n=rng.choice(fact.attribute.nouns))


def ask_procedure(procedure: Procedure, rng: random.Random, *, exam: bool = False) -> str:
    """A question about a how-to."""
    if exam:
        # One in four says it without naming the thing to do.
        return rng.choice(procedure.ask_exam if rng.random() < 0.25 else _PROCEDURE_ASK_EXAM).format(x=procedure.goal)
    return rng.choice(_PROCEDURE_ASK).format(x=procedure.goal)


def _fill(template: str, rng: random.Random) -> str:
    return template.format(
        day=rng.choice(_DAYS),
        num=rng.randrange(10_000, 99_999),
        who=rng.choice(_WHO),
        small=rng.randrange(2, 9),
        two=rng.randrange(10, 99),
        name=rng.choice(_NAMES),
    )


def customer_turn(questions: list[str], rng: random.Random) -> str:
    """Questions dressed as one message and typed on a phone."""
    text = questions[0]
    for question in questions[1:]:
        text += rng.choice(_JOIN) + question
    if rng.random() < 0.6:
        context = _fill(rng.choice(_CONTEXT), rng)
        text = (
            f"{context}{rng.choice((', ', '. ', ' ', ' and '))}{text}"
            if rng.random() < 0.7
            else f"{text}{rng.choice((', ', '. '))}{context}"
        )
    if rng.random() < 0.02:
        text = f"{text}, {_fill(rng.choice(_PRIVATE), rng)}"
    if rng.random() < 0.4:
        text = f"{rng.choice(_GREET)}{rng.choice((' ', ', ', '. '))}{text}"
    if rng.random() < 0.25:
        text = f"{text} {rng.choice(_URGE)}"
    text = text[0].upper() + text[1:]
    if rng.random() < 0.7:
        text += "?" if rng.random() < 0.8 else "."
    return phone(text, rng)


# --- what agents answer ---------------------------------------------------------------------------------------------------------


def say_fact(fact: Fact, rng: random.Random) -> str:
    """One sentence with the value."""
    name = f"the {fact.name}"
    return rng.choice(fact.attribute.answer).format(e=name, E=name[0].upper() + name[1:], v=fact.value)


def say_procedure(procedure: Procedure, rng: random.Random) -> str:
    """The three steps in one or two sentences."""
    a, b, c = procedure.steps
    return rng.choice(_PROCEDURE_ANSWER).format(x=procedure.goal.replace("my", "your"), a=a, b=b, c=c)


def say_refund_reversal(rng: random.Random) -> str:
    """The policy answer to a reversed refund."""
    return rng.choice(_REFUND_ANSWER).format(r=rng.choice(_REFUND_REASON))


def agent_turn(sentences: list[str], agent: int, rng: random.Random) -> str:
    """Sentences in one agent's manner: everybody has favorite openers and closers."""
    manner = random.Random(agent)
    opener = rng.choice(manner.sample(_OPENERS, 8))
    closer = rng.choice(manner.sample(_CLOSERS, 8))
    return " ".join(part for part in (opener, *sentences, closer) if part)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One customer message and the answer to it."""

    user: str
    assistant: str
    intents: tuple[str, ...]


def exchange(company: Company, rng: random.Random, agent: int, general: list[Act], *, exam: bool = False) -> Exchange:
    """Draw one exchange: 45% plan facts, 35% item facts, 14% how-tos, 6% something unrelated; one in five asks two things."""
    draw = rng.random()
    if draw < 0.06 and general:
        act = rng.choice(general)
        question = rng.choice(FRAMES_PROBE if exam else FRAMES_TRAIN).format(x=act.text)
        question = question[0].lower() + question[1:].rstrip(".?")
        return Exchange(customer_turn([question], rng), comply(act, rng), ("general",))
    asked: list[tuple[str, str, str]] = []
    for _ in range(2 if rng.random() < 0.2 else 1):
        if rng.random() < 0.15:
            procedure = rng.choice(company.procedures)
            asked.append((ask_procedure(procedure, rng, exam=exam), say_procedure(procedure, rng), "how_to"))
        else:
            wanted = "plan_fact" if rng.random() < 0.56 else "item_fact"
            fact = rng.choice([f for f in company.facts if f.kind == wanted])
            asked.append((ask_fact(fact, rng, exam=exam), say_fact(fact, rng), fact.kind))
    user = customer_turn([q for q, _, _ in asked], rng)
    return Exchange(user, agent_turn([s for _, s, _ in asked], agent, rng), tuple(dict.fromkeys(i for _, _, i in asked)))
