"""Checks on tables of rows wherever they are: the schema (SPEC 2.6)."""

from collections.abc import Iterator

from ftplatform.defs.asset_checks.license_checks import ROWS_FILE
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, family_of
from ftplatform.defs.plan import Plan
from ftplatform.rows.validation import CHECK_VERSION, row_schema
from ftplatform.verdict import Verdict

_FAMILIES = {Family.RAW, Family.SYNTHETIC, Family.FEEDBACK, Family.CORPORA, Family.SPLITS, Family.EVAL_SETS}


def row_checks(plan: Plan) -> Iterator[Check]:
    """`row_schema` on every asset that holds rows."""
    for asset in plan.lineage.assets:
        if family_of(asset) in _FAMILIES:
            yield Check(
                name="row_schema",
                asset=asset,
                judge=_row_schema,
                version=CHECK_VERSION,
                description="Every row obeys the row schema: types, roles, identity, surface.",
            )


def _row_schema(judging: Judging) -> Verdict:
    return row_schema(judging.snapshot.read_table(ROWS_FILE[family_of(judging.asset)]))
