"""`shorthand_leak`: what agents write to each other has no place in an answer to a customer.

Over-represented against approved text is most of chat; shorthand is what also has the look of it: abbreviations, acronyms the
approved text does not know, channels, handles, emoji codes, ticket numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from ftplatform import plots
from ftplatform.rows.masking import mask_text
from ftplatform.statistics.intervals import check_share, wilson
from ftplatform.statistics.power import required_n_zero_events
from ftplatform.targets.habits.batching import Rows
from ftplatform.targets.habits.phrases import count_phrases, log_odds, spoken, tokens
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: One-sided p = .0005: of some thousand shorthand-like words, less than one is flagged by chance.
Z_LIMIT = 3.3
#: Words of approved text below which nothing is known about how the brand writes.
APPROVED_WORDS = 2_000

_ABBREVIATIONS = (
    "pls|plz|cust|custs|cx|csr|acct|accts|asap|fyi|lmk|nvm|tbh|afaik|iirc|imo|imho|btw|idk|brb|ty|thx|tnx|np|rn|bc|"
    "tmrw|tmr|appt|appts|addr|amt|txn|txns|msg|msgs|esc|eod|eow|eta|wip|sme|pto|ooo|ptl|pov|tldr|gtg|gonna|wanna|"
    "gotta|kinda|dunno|thru|tho|cuz|cos|u|ur|r|k|kk|yep|yup|nope|lol|omg|hmu|wfh|ack|nack|lgtm|ping|pinged|dm|dms|"
    "escal|mgr|sup|dept|recd|rcvd|req|reqs|ref|refs|wk|wks|mins|hrs"
)
_LOOKS = (
    rf"^(?:{_ABBREVIATIONS})$|^[#@]|^:.+:$|^[A-Z]{{2,6}}-\d+$|^[bcw]/|^[A-Z]{{2,5}}$|^[tlp][1-4]$"
    r"|^[bcdfghjklmnpqrstvwxz]{2,5}$"
)
# Without a vowel, but nobody's shorthand.
_PLAIN = r"^(?:mr|mrs|ms|dr|st|hmm|shh|tv|pc|km|kg|cm|mm|ft|lb|hr|th|nd|rd|ll|pm|hd|bbq)$"


def shorthand_leak(
    rows: Rows,
    approved: Rows,
    *,
    limit: float = 0.005,
    alpha: float = 0.05,
    z_limit: float = Z_LIMIT,
    approved_required: int = APPROVED_WORDS,
) -> Verdict:
    """Shorthand over-represented against approved text stands in at most `limit` of the trainable assistant turns.

    Args:
        rows: targets, `ROW_SCHEMA`. approved: text the brand stands behind, its assistant turns.
        limit: share of turns, compared with the one-sided Wilson upper bound.
        alpha: false-alarm rate of the bound.
        z_limit: log-odds in standard errors from which a word counts (`phrases.log_odds`).
        approved_required: words of approved text that are needed.

    Returns:
        Warns, never fails; evidence lists the words by z. n is turns.
    """
    check_share(limit, "limit")
    required = required_n_zero_events(limit, 1 - alpha)
    marked = [pl.DataFrame(schema={"turn_id": pl.Int64, "token": pl.String})]
    turns = 0

    def ours() -> Iterable[pl.DataFrame]:
        nonlocal turns
        for part in spoken(rows, trainable_only=True):
            turns += len(part)
            found = tokens(part)
            marked.append(found.filter(_looks_like_shorthand(pl.col("token"))).select("turn_id", "token").unique())
            yield found

    counted = count_phrases(ours(), longest=1)
    reference = count_phrases((tokens(part) for part in spoken(approved, trainable_only=False)), longest=1)
    common: dict[str, Any] = {
        "statistic": "share of trainable assistant turns with shorthand",
        "n": turns,
        "n_required": required,
        "threshold": limit,
        "baseline": f"{reference[1]:,} words of approved text",
        "check_version": CHECK_VERSION,
        "config": {"limit": limit, "alpha": alpha, "z_limit": z_limit, "approved_required": approved_required},
        "tier": "rules",
    }
    if turns < required or reference[1] < approved_required:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{turns:,} turns and {reference[1]:,} words of approved text; {required:,} and {approved_required:,} are needed.",
            remedy="Provide more rows and more approved text.",
            **common,
        )
    ranked = log_odds(counted, reference).filter((pl.col("z") > z_limit) & _looks_like_shorthand(pl.col("phrase")))
    hit = pl.concat(marked).join(ranked.select(token="phrase"), on="token", how="semi")["turn_id"].n_unique()
    high = wilson(hit, turns, 1 - alpha, alternative="upper").high
    top = ranked.head(MAX_EVIDENCE)
    listed = ", ".join(mask_text(word) for word in top["phrase"].head(5))
    return Verdict(
        decision=Decision.PASS if high <= limit else Decision.WARN,
        summary=f"Shorthand in {hit:,} of {turns:,} turns, at most {high:.2%}{': ' + listed if listed else ''}.",
        estimate=hit / turns,
        ci_low=wilson(hit, turns, 1 - alpha, alternative="lower").low,
        ci_high=high,
        confidence=1 - alpha,
        evidence=[
            {"word": mask_text(line["phrase"]), "count": line["count"], "approved": line["approved"], "z": round(line["z"], 2)}
            for line in top.iter_rows(named=True)
        ],
        remedy="Nothing to do." if high <= limit else "Write the words out, or mask the sentences that hold them.",
        plot=plots.bars(
            [(mask_text(word), z) for word, z in top.select("phrase", "z").iter_rows()], title="Shorthand by z", threshold=z_limit
        ),
        details={"words": len(ranked), "turns_with": hit},
        **common,
    )


def _looks_like_shorthand(token: pl.Expr) -> pl.Expr:
    return token.str.contains(_LOOKS) & ~token.str.contains(_PLAIN)
