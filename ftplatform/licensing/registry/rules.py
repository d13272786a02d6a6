"""Which observations count: the rules by which the state of a source follows from everything observed about it.

Seen are the observations with ``valid_from <= valid_at`` and ``observed_at <= known_at``. They are ordered by `valid_from`, then
`observed_at`, then number; "later" below means later in that order. The state is that of the most severe observation that still
holds; if none holds, that of the latest of the others.

| severity | observation | holds until |
|---|---|---|
| 8 | `takedown` of everything | lifted |
| 7, 6 | `deleted`, `disabled` | lifted, or the same watcher sees the source again: `active`, `gated`, `relicensed`, `prospective` |
| 5, 4, 3, 2 | `disputed`, `relicensed`, `unknown`, `prospective` | lifted |
| 1 | `withdrawn_rows`, `takedown` of rows | a `reinstated`, a retraction or a counter-notice; never by a conclusion about the terms |
| 0 | `active`, `gated`, `unreachable`, `reinstated` | the next one |

Something is lifted by a later observation that is `reinstated`, or that is a person's conclusion (`concluded` and `concluded_by` both
given, and the state `active`, `gated`, `prospective` or `reinstated`).

* If that observation names a notice, it lifts what rests on the same notice, in whatever order the two were learned.
* If it names none, it lifts what had been observed by the time it was: nobody answers a claim before hearing of it.
* A notice of kind `retraction` or `counter_notice` lifts, in every source, what rests on the notice it refers to, from the
  day it was received.

So a watcher's `active` after a takedown, a dispute or a relicensing changes nothing, and neither does `unreachable` or `gated`,
which would otherwise let the terms of before stand. `takedown` of rows shows as the state `withdrawn_rows`: the rest is as it was.
If everything about a source was lifted by notices and nothing else was observed, its state is `unknown`.

What a look says nothing about carries over from the latest earlier look that does: `declared`; `concluded` with `concluded_by`;
`exhibits`. The grant is what the first `active` observation said, first by `observed_at`: what we saw when we took it.

`valid_from` of a conclusion is when the person concluded, or since when the conclusion is to count. A watcher that re-reads a
declaration must keep it: with the time of reading it would look like a new conclusion.
"""

from __future__ import annotations

from typing import NamedTuple

from ftplatform.licensing.states import State, TermsObservation

#: What it takes to lift something: nothing to lift, that the place answers again, a conclusion, a reinstatement.
NOTHING, AN_ANSWER, A_CONCLUSION, A_REINSTATEMENT = range(4)

_SEVERITY = {
    State.WITHDRAWN_ROWS: 1,
    State.PROSPECTIVE: 2,
    State.UNKNOWN: 3,
    State.RELICENSED: 4,
    State.DISPUTED: 5,
    State.DISABLED: 6,
    State.DELETED: 7,
    State.TAKEDOWN: 8,
}
_ANSWERS = {State.ACTIVE, State.GATED, State.RELICENSED, State.PROSPECTIVE}
_CONCLUDES = {State.ACTIVE, State.GATED, State.PROSPECTIVE, State.REINSTATED}


class Weight(NamedTuple):
    """How an observation takes part: its severity, what it takes to lift it, and what it can lift itself."""

    severity: int
    needs: int
    lifts: int


def weigh(observation: TermsObservation) -> Weight:
    """The row of the table an observation belongs to."""
    state = observation.state
    if state is State.REINSTATED:
        lifts = A_REINSTATEMENT
    elif state in _CONCLUDES and observation.concluded is not None and observation.concluded_by is not None:
        lifts = A_CONCLUSION
    else:
        lifts = AN_ANSWER if state in _ANSWERS else NOTHING
    if observation.rows or state is State.WITHDRAWN_ROWS:
        return Weight(_SEVERITY[State.WITHDRAWN_ROWS], A_REINSTATEMENT, lifts)
    severity = _SEVERITY.get(state, 0)
    if severity == 0:
        return Weight(0, NOTHING, lifts)
    return Weight(severity, AN_ANSWER if state in {State.DISABLED, State.DELETED} else A_CONCLUSION, lifts)
