"""Rules on sentences in the form `features.normalize` leaves: what cannot be a promise, of what kind one is, what is said to be done.

Regular expressions in Rust syntax, evaluated on whole columns. The classifier reads a wording; these know the grammar it gets wrong.
"""

from __future__ import annotations

import polars as pl

from ftplatform.targets.habits.policy import Act, CommitmentKind

# "If there is anything else, tell me" is no condition of what follows.
_COURTESY = (
    r"\b(?:let me know|tell me|reach out|contact us|ask|call)\b[^,;]{0,30}\bif\b.*$"
    r"|\bif (?:there is|you have|you need|you want|you)\b[^,;]{0,25}\b(?:anything|any|other|more|further|else|help|questions?)\b[^,;]*"
)
_CONDITION = (
    r"\bif\b|\bunless\b|\bprovided (?:that|you|the|it)\b|\bin case\b|\bdepend(?:s|ing) on\b|^should \w+|\bas long as\b|\bassuming\b"
    r"|\bin the event\b|\bsubject to\b|\bwhether\b|\bonce (?:you|the|we|it|your|i|a)\b|\bas soon as\b|^were (?:the|you|we)\b|\bonly after\b"
)
#: Between quotes somebody else speaks.
QUOTED = r'"[^"]*"'

# First-person and "you will get" frames with the thing itself in reach: flagged whatever the classifier says.
_DIRECT = (
    r"\b(?:i|we) (?:will|shall|am going to|are going to|have(?: just| already| also| now)?) "
    r"(?:\w+ ){0,3}?(?:refund|refunded|reimburse|reimbursed|waive|waived|credited)\b"
    r"|\b(?:i|we) (?:have(?: just| already)?|will|can) (?:now )?(?:issue|issued|add|added|send|sent|give|given|offer) "
    r"(?:you |a |an |the |your |amount_ ){0,3}(?:refund|voucher|goodwill|certificate|coupon|store credit)\b"
    r"|\byou will (?:get|receive|be given) (?:a |an |your |the )?(?:full |amount_ )?(?:refund|money back|voucher|coupon)\b"
)
_DENIED = r"\b(?:not|cannot|never|no|unable|nothing|neither|wish|nobody|without)\b"

# In the order in which they decide: a refund to a gift card is money, a certificate as compensation is credit.
_KINDS: tuple[tuple[CommitmentKind, str], ...] = (
    (
        CommitmentKind.MONEY,
        r"\brefund|\breimburs|\brepa(?:y|id)|\bmoney|\bpa(?:y|id|ying) (?:(?:you|it) )?(?:back|again)|\bpayout|\bpayback|\bdeposit",
    ),
    (
        CommitmentKind.CREDIT,
        r"\bvoucher|\bpoints|\bmiles|\bcertificate|\bcoupon|\bdiscount|\bbonus|\bgift|store credit|percent\b|\bcode\b"
        r"|\bcredits?(?: to| of| for| worth| on|\W*$)",
    ),
    (
        CommitmentKind.WAIVER,
        r"\bwaiv|\bfees?\b|\bcharges?\b|\bcharging\b|\bpenalt|\bsurcharge|\bfine\b|\binvoice|\bbill|\bon (?:us|me)\b|on the house|\bfree\b"
        r"|\bcomplimentary|no cost|not cost|\bowe\b|\bdebt|not (?:have|need) to pay|\binterest\b",
    ),
    (
        CommitmentKind.MONEY,
        r"\bcash\b|\bcompensat|\bback (?:to|on|in|into|where)\b|\byour (?:bank|card)\b|cover(?:ed)? the cost|pick up the"
        r"|pay for (?:the|your)|make you whole|amount_",
    ),
    (
        CommitmentKind.CREDIT,
        r"\bcredit|\btoken|\bsomething|\bsurprise|\btreat|\bperk|\bextra|\bgoodwill|\bupgrade|\bmonth|\bprice|\bcheaper|\bpresent|\bwallet|\bbalance"
        r"|\baccount",
    ),
)

_DEFINITE = (
    r"\b(?:today|tonight|tomorrow|(?:mon|tues|wednes|thurs|fri|satur|sun)day|weekend|noon|midnight|christmas|within|by|before|until|sharp"
    r"|at the latest|overnight|number_|promis\w*|guarantee\w*|assure|my word|count on|rely on|without fail|no doubt|no matter what)\b"
    r"|\bend of\b|\bin (?:an|one|two|three|four|five|six|ten|twelve) (?:minute|hour|day|week)"
    r"|\b(?:this|next) (?:morning|afternoon|evening|week|month)"
)

_SOON = (
    r"\b(?:soon|shortly|momentarily|right away)\b|\bin (?:just )?a (?:moment|minute|few|bit|couple|short while|while|second)\b"
    r"|\bwill be (?:ready|at the|available|made|up|out)\b"
)

_NOUN_OF_BOOKING = r"(?:reservations?|appointments?|bookings?|tables?|rides?|visits?|flights?|slots?|trips?|rooms?|taxis?|cabs?)"
#: Said to be done, by act; the first that fits names it.
_ACTS: tuple[tuple[Act, str], ...] = (
    (Act.CANCELLATION, r"\bcancell?ed|cancell?ation\b.*\bcompleted"),
    (
        Act.PAYMENT,
        r"refund|credited|credits?\b|voucher|certificate|waive|points|coupon|discount|reimburs|\bfee\b|goodwill|money|amount_",
    ),
    (Act.CALLBACK, r"call ?back|\bcall (?:you|from|at)|\b(?:ring|phone) you|a call\b|return call|the list for a"),
    (Act.BOOKING, r"\bbooked\b|\breserved\b|\bscheduled\b|" + _NOUN_OF_BOOKING),
    (
        Act.ESCALATION,
        r"escalat|supervisor|manager|\btier|specialist|team|colleague|department|upstairs|higher|senior|boss|leadership|chain|desk",
    ),
    (Act.TICKET, r"ticket|\bcase\b|complaint|report|dispute|\bform\b|claim|request|work order|paperwork"),
    (
        Act.OTHER,
        r"\b(?:changed|updated|reset|blocked|froze|frozen|stopped|closed|removed|added|ordered|sent|activated|deactivated|switched|unsubscribed"
        r"|notified|informed|called|contacted)\b",
    ),
)
# What agents write of a booking word for word the same hundreds of times; "you booked" is the customer's doing.
_BOOKED = (
    rf"\b{_NOUN_OF_BOOKING}\b.{{0,80}}\b(?:is|are|has been|have been)(?: \w+ly| now| all| also)? (?:booked|confirmed|reserved|made)\b"
    rf"|\b(?:i|we) (?:have )?(?:\w+ly |just |already |now |also )?(?:booked|reserved|scheduled)\b"
    r"|\b(?:i|we) have (?:gone ahead and |just |already )?escalated\b|^(?:\w+ ){0,3}booked\b[.!]?$"
)
# Not yet done, done by the customer, or a fact about a booking that was there before.
_NOT_NOW = (
    r"\b(?:will be|can be|to be|could be|would be|should be|must be|not)(?: \w+)? (?:booked|confirmed|reserved|made|scheduled)\b"
    r"|\byou (?:have )?(?:booked|reserved)\b|\b(?:was|were)(?: \w+)? (?:made|booked|scheduled|reserved|created)\b|\bhours? ago\b"
    r"|\bwithin the last\b|\b(?:is|are|was) (?:currently |originally )?scheduled (?:for|to)\b|\bupcoming\b|\bhave found\b|\bi found\b"
)

#: An apology to the customer. Sympathy ("sorry to hear") admits nothing and is none.
APOLOGY = r"\b(?:sorry|apolog(?:y|ies|ize|ise|izing|ising)|our mistake|my mistake|my bad|forgive (?:us|me)|regret the)\b"
SYMPATHY = r"\bsorry to hear\b|\bno need to apolog|\bsorry for your loss\b|\bbetter safe than sorry\b"


def conditional(sentence: pl.Expr) -> pl.Expr:
    """Whether what is said hangs on a condition, or is asked."""
    rest = sentence.str.replace_all(_COURTESY, "")
    return rest.str.contains(_CONDITION) | rest.str.contains(r"\?\W*$")


def direct_promise(sentence: pl.Expr) -> pl.Expr:
    """Whether a promise is made in so many words."""
    return sentence.str.contains(_DIRECT) & ~sentence.str.contains(_DENIED)


def binds_nobody(sentence: pl.Expr) -> pl.Expr:
    """Whether all that is said is that something happens "soon" or "in a moment": no time that could be missed."""
    return sentence.str.contains(_SOON) & ~sentence.str.contains(_DEFINITE)


def kind_of_promise(sentence: pl.Expr) -> pl.Expr:
    """`CommitmentKind` of a sentence that promises something; a deadline where nothing of value is named."""
    chain = pl.when(False).then(pl.lit(""))
    for kind, pattern in _KINDS:
        chain = chain.when(sentence.str.contains(pattern)).then(pl.lit(str(kind)))
    return chain.otherwise(pl.lit(str(CommitmentKind.DEADLINE)))


def direct_claim(sentence: pl.Expr) -> pl.Expr:
    """Whether a booking or an escalation is said to be done in so many words."""
    return sentence.str.contains(_BOOKED)


def no_claim(sentence: pl.Expr) -> pl.Expr:
    """Whether something is said not to be done yet, or to have been so before."""
    return sentence.str.contains(_NOT_NOW)


def claimed_act(sentence: pl.Expr) -> pl.Expr:
    """`Act` of a sentence that says something was done; null if nothing is named that could have been."""
    chain = pl.when(False).then(pl.lit(""))
    for act, pattern in _ACTS:
        chain = chain.when(sentence.str.contains(pattern)).then(pl.lit(str(act)))
    return chain.otherwise(None)


def apologizes(sentence: pl.Expr) -> pl.Expr:
    """Whether the sentence apologizes."""
    return sentence.str.replace_all(SYMPATHY, "").str.contains(APOLOGY)
