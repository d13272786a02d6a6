"""A rehearsal as one HTML page: the decision, failing slices first, alignment, what differs, learning rates, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ftplatform.migration.rehearsal import Migration
from ftplatform.migration.sensitivity import rate_plot
from ftplatform.pages import Marked, block, page, plain, section, table
from ftplatform.verdict import Verdict

_LEFT_OUT = 20


def migration_page(migration: Migration, *, note: str = "") -> str:
    """A self-contained page; the same for the same rehearsal.

    Args:
        note: plain text for the foot (who, when, which record).
    """
    title = f"Migration of {migration.adapter} to {migration.new_base}"
    decision = str(migration.verdict.decision)
    sections = (
        _task(migration),
        _alignment(migration),
        _missing(migration),
        _differences(migration),
        _rates(migration),
        _cost(migration),
    )
    body = f"""<header>
<h1>{plain(title)}</h1>
<p class="verdict {escape(decision, quote=True)}"><b>{plain(decision)}</b><br><span>{plain(migration.verdict.summary, 2000)}
{plain(migration.verdict.remedy, 1000)}</span></p>
</header>
<main>
{"".join(sections)}
</main>
<footer><p>From {plain(migration.old_base)}; closure {plain(migration.closure)}. {plain(note, 400)}</p></footer>"""
    return page(title, body)


def _task(migration: Migration) -> str:
    if not migration.parts:
        return section("Task", "task", "<p>No task item was compared.</p>")
    rows = [
        (p.part, p.n, f"{p.old:.1%}", f"{p.new:.1%}", f"{100 * p.gain:+.1f} [{100 * p.low:+.1f}, {100 * p.high:+.1f}]",
         f"{p.p_adjusted:.2g}", Marked(str(p.change)))
        for p in migration.parts
    ]  # fmt: skip
    heads = ("part", "items", "old", "new", "gain, points [one-sided 95 % bounds]", "p (Holm)", "decision")
    seeds = ""
    if len(migration.gains) > 1:
        listed = ", ".join(f"{100 * gain:+.1f}" for gain in migration.gains)
        between = migration.to_record()["gain_of_next_replicate"]
        said = (
            ""
            if between is None
            else f" One more replicate would lie within {100 * between[0]:+.1f} and {100 * between[1]:+.1f} (95 %)."
        )
        seeds = f'<p class="note">Gain of the whole by seed, points: {listed}.{said}</p>'
    ranked = "Slices that got worse come first, then those too small to decide."
    return section(
        "Task, the new adapter against the one in use",
        "task",
        f'<p class="note">{ranked}</p>' + migration.plots.get("task", "") + table(heads, rows, {1, 2, 3, 4, 5}) + seeds,
    )


def _alignment(migration: Migration) -> str:
    if not migration.alignment:
        return ""
    rows = [
        (side, Marked(str(verdict.decision)), verdict.summary, _decision(migration.old_alignment.get(side)))
        for side, verdict in migration.alignment.items()
    ]
    return section(
        "Alignment, the new adapter against the new base",
        "alignment",
        table(("side", "decision", "what was found", "adapter in use against its own base"), rows),
    )


def _missing(migration: Migration) -> str:
    rows = [(m.field, m.had, m.has, Marked("yes" if m.blocks else "no"), m.remedy) for m in migration.differences.missing]
    body = table(("field", "old base", "new base", "blocks", "remedy"), rows) if rows else "<p>Nothing.</p>"
    return section("Named by the closure and absent for the new base", "missing", body)


def _differences(migration: Migration) -> str:
    found = migration.differences
    facts = [*found.facts, *_encoding(migration.old_encoding, migration.new_encoding)]
    said = f"The chat template {'differs' if found.template_changed else 'is the same'}; sample conversations are rendered "
    said += {True: "differently", False: "the same", None: "by one of the two only"}[found.rendering_changed] + "."
    diff = f"<pre>{block(found.template_diff)}</pre>" if found.template_diff else ""
    tokens = [(name, old or "", new or "") for name, old, new in found.special_tokens]
    special = table(("special token", "old", "new"), tokens) if tokens else ""
    return section("Differences of the bases", "bases", f"{table(('', 'old', 'new'), facts)}<p>{said}</p>{diff}{special}")


def _encoding(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Training rows as each trainer run read them."""

    def told(side: Mapping[str, Any] | None, name: str) -> str:
        value = None if side is None else side.get(name)
        return "not known" if value is None else f"{len(value):,}" if isinstance(value, Sequence) else f"{value:,}"

    names = {
        "rows": "rows trained on",
        "tokens": "tokens of them, template included",
        "trained_tokens": "tokens with loss",
        "cut_rows": "rows cut to fit",
        "left_out_rows": "rows left out",
    }
    listed = [(text, told(old, name), told(new, name)) for name, text in names.items()]
    for row in ((new or {}).get("left_out_rows") or ())[:_LEFT_OUT]:
        listed.append((f"left out: {row['row_id'][:12]}", "", str(row["reason"])))
    return listed


def _rates(migration: Migration) -> str:
    if not migration.rates and not migration.failed_rates:
        return ""
    failed = "".join(f"<p>{multiple:g} times the rate: {plain(why, 400)}</p>" for multiple, why in migration.failed_rates.items())
    rows = [
        (f"{r.multiple:g}", f"{r.learning_rate:.3g}", "" if r.score is None else f"{r.score:.1%}", f"{r.loss:.3f}",
         "" if r.change is None else f"{100 * r.change.gain:+.1f} [{100 * r.change.low:+.1f}, {100 * r.change.high:+.1f}]",
         Marked("" if r.change is None else str(r.change.change)))
        for r in migration.rates
    ]  # fmt: skip
    heads = (
        "multiple",
        "learning rate",
        "task score",
        "last loss, nats per token",
        "against the recipe's rate, points",
        "decision",
    )
    chosen = '<p class="note">A rate chosen here was chosen on the exam; confirm it on items that were not used to choose.</p>'
    return section(
        "Learning rate", "rates", rate_plot(list(migration.rates)) + table(heads, rows, {0, 1, 2, 3, 4}) + failed + chosen
    )


def _cost(migration: Migration) -> str:
    rows = [
        (f"{run['multiple']:g}", run["replicate"], f"{run['steps']:,}", f"{run['tokens']:,}", f"{run['seconds']:.1f}",
         f"{run['tokens_per_second']:,.0f}")
        for run in migration.runs
    ]  # fmt: skip
    heads = ("rate", "replicate", "steps", "tokens", "seconds", "tokens/s")
    return section("Cost of the training runs", "cost", table(heads, rows, set(range(6)))) if rows else ""


def _decision(verdict: Verdict | None) -> Marked:
    return Marked("" if verdict is None else str(verdict.decision))
