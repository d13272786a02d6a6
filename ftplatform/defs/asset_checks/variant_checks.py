"""M10 on the graph: typos and variants in what models are tuned on, and in how tuned models answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from ftplatform.canonical import sha256_hex
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.lineage import evals_of
from ftplatform.defs.plan import Plan
from ftplatform.errors import InputDataError
from ftplatform.evaluation import sampling
from ftplatform.evaluation.decoding import Decoding
from ftplatform.evaluation.retention import PLAIN, SYSTEM_PROMPT
from ftplatform.project.language import Language
from ftplatform.project.loading import LoadedProject
from ftplatform.project.models import Adapter
from ftplatform.store import Snapshot
from ftplatform.targets.variants import prior, share, untouched
from ftplatform.targets.variants.cleaning import UNCLEANED_FILE
from ftplatform.targets.variants.findings import Limits
from ftplatform.targets.variants.forcing import PROBE_SLICE, spelled
from ftplatform.targets.variants.lexicon import Lexicon, Term
from ftplatform.targets.variants.words import Rows
from ftplatform.verdict import Verdict

_COLUMNS = ["row_id", "messages", "author", "parents"]
_BATCH_ROWS = 16_384
_MAX_DICTIONARY_BYTES = 64 << 20


def variant_checks(plan: Plan) -> Iterator[Check]:
    """`target_variant_share` on every corpus; the others where the project names what they need (a base model, edits, probes)."""
    language = plan.project.language
    for name in plan.project.datasets:
        corpus = asset_name(Family.CORPORA, name)
        yield _target_variant_share(plan, corpus)
        if language.prior_model is not None:
            yield _prior_inversion(plan, corpus, asset_name(Family.BASE_MODELS, language.prior_model))
        if name in language.edits:
            yield _user_turn_untouched(corpus)
    for name, adapter in plan.project.adapters.items():
        if language.probes is not None and language.probes in evals_of(plan.project, adapter):
            yield _model_variant_rate(plan, asset_name(Family.EVAL_RESULTS, name), adapter, language.probes)


def project_lexicon(loaded: LoadedProject) -> Lexicon:
    """The words the project accepts.

    Raises:
        InputDataError: `language.dictionary` cannot be read, or is no list of words.
    """
    language = loaded.project.language
    return Lexicon(
        locales=language.locales,
        glossary=[Term(term.term, tuple(term.variants)) for term in language.glossary],
        names=language.names,
        words=_dictionary(loaded, language).decode().splitlines(),
    )


def _dictionary(loaded: LoadedProject, language: Language) -> bytes:
    if language.dictionary is None:
        return b""
    path = Path(loaded.resolve(language.dictionary))
    try:
        if path.stat().st_size > _MAX_DICTIONARY_BYTES:
            raise InputDataError(
                f"language.dictionary {language.dictionary} is larger than {_MAX_DICTIONARY_BYTES >> 20} MiB.",
                remedy="Give a list of words, one a line.",
            )
        content = path.read_bytes()
        content.decode()
    except OSError as error:
        raise InputDataError(
            f"language.dictionary {language.dictionary} cannot be read: {error.strerror}.", remedy="Correct the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputDataError(
            f"language.dictionary {language.dictionary} is no UTF-8 text.", remedy="Save it as UTF-8, one word a line."
        ) from error
    return content


def _deciding(plan: Plan) -> dict[str, Any]:
    """What decides about words: the keys of the project file, and the content of the dictionary they name."""
    language = plan.project.language
    try:
        listed = sha256_hex(_dictionary(plan.loaded, language))
    except InputDataError:
        # The check itself says so, when it runs; the code location loads without the file.
        listed = "unreadable"
    words = language.model_dump(mode="json", include={"locales", "glossary", "names"})
    return {"language": words, "dictionary": listed}


def _rows(snapshot: Snapshot, file: str = "rows.parquet") -> Rows:
    return lambda: snapshot.iter_batches(file, _COLUMNS, batch_rows=_BATCH_ROWS)


def _target_variant_share(plan: Plan, asset: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        limits = Limits(confidence=1 - judging.alpha)
        if judging.threshold is not None:
            limits = replace(limits, share=judging.threshold)
        return share.target_variant_share(_rows(judging.snapshot), project_lexicon(plan.loaded), limits)

    return Check(
        name="target_variant_share",
        asset=asset,
        judge=judge,
        version=share.CHECK_VERSION,
        description="No misspelling makes up more than 1 % of a word's uses in the answers a model learns.",
        statistical=True,
        deciding=_deciding(plan),
    )


def _prior_inversion(plan: Plan, asset: str, base: str) -> Check:
    def judge(judging: Judging) -> Verdict:
        from ftplatform.evaluation.generation import Generator

        generator = Generator.load(judging.others[base].local_folder(MODEL_FOLDER))
        verdict = prior.prior_inversion(_rows(judging.snapshot), project_lexicon(plan.loaded), prior.model_scorer(generator))
        return replace(verdict, baseline=f"{base}@{judging.others[base].digest[:12]}")

    return Check(
        name="prior_inversion",
        asset=asset,
        judge=judge,
        version=prior.CHECK_VERSION,
        description="The base model expects no other word where the targets have one: real words and brands that stand for another.",
        looks_at=(base,),
        blocking=False,
        deciding=_deciding(plan),
    )


def _user_turn_untouched(asset: str) -> Check:
    return Check(
        name="user_turn_untouched",
        asset=asset,
        judge=lambda judging: untouched.user_turn_untouched(_rows(judging.snapshot, UNCLEANED_FILE), _rows(judging.snapshot)),
        version=untouched.CHECK_VERSION,
        description="Cleaning the targets changed nothing that a user typed.",
        blocking=False,
    )


def _model_variant_rate(plan: Plan, asset: str, adapter: Adapter, probes: str) -> Check:
    eval_set = plan.project.eval_sets[probes]
    decoding = Decoding(
        max_new_tokens=eval_set.max_new_tokens,
        temperature=eval_set.temperature or 0.0,
        top_p=1.0 if eval_set.top_p is None else eval_set.top_p,
    )
    condition = SYSTEM_PROMPT if adapter.system_prompt else PLAIN

    def judge(judging: Judging) -> Verdict:
        limits = judging.limit("limit")
        answers = pl.DataFrame(pl.from_arrow(judging.snapshot.read_table("answers.parquet")))
        asked = answers.filter((pl.col("eval_set") == probes) & (pl.col("condition") == condition))
        rates = {who: _rate(asked, who, decoding, 1 - judging.alpha) for who in ("base", "tuned")}
        verdict = sampling.model_variant_rate(rates["tuned"], **limits)
        base = rates["base"]
        return replace(verdict, details={**verdict.details, "base_rate": None if base is None else base.interval.estimate})

    return Check(
        name="model_variant_rate",
        asset=asset,
        judge=judge,
        version=sampling.CHECK_VERSION,
        description="The tuned model writes a known misspelling in at most 1 % of the places that force the word.",
        statistical=True,
        deciding={"probes": probes, "condition": condition, "decoding": decoding.key},
    )


def _rate(asked: pl.DataFrame, who: str, decoding: Decoding, confidence: float) -> sampling.Rate | None:
    """How the sampled answers spell the word of their probe; the probe's slice names the variant, its reference the right word."""
    named = asked.with_columns(
        wrong=pl.col("slices").list.eval(pl.element().filter(pl.element().str.starts_with(PROBE_SLICE))).list.first()
    ).drop_nulls(["wrong", "reference"])
    judged = named.select(
        pl.coalesce("group", "item_id").alias("cluster"),
        "item_id",
        answer=f"{who}_answer",
        right="reference",
        wrong=pl.col("wrong").str.slice(len(PROBE_SLICE)),
    )
    shown = judged.with_columns(spelled=spelled(judged)).drop_nulls("spelled")
    if shown.is_empty():
        return None
    contexts = shown["item_id"].n_unique()
    return sampling.Rate(
        sampling.rate_interval(shown["spelled"].to_numpy(), shown["cluster"].to_list(), confidence),
        contexts,
        judged["item_id"].n_unique() - contexts,
        "sampled",
        decoding,
    )
