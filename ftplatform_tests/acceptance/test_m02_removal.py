"""M2, answering a notice, on real text: databricks-dolly (CC-BY-SA-3.0, republished as Apache-2.0) among other people's rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.removal.ban import Ban
from ftplatform.licensing.removal.certificate import Certificate, CertificateRefused, Replay, certify, render, verify
from ftplatform.licensing.removal.check import influence_removed
from ftplatform.licensing.removal.claim import Claimed, Matcher, read_claimed_rows, resolve
from ftplatform.licensing.removal.claims import Claim, claims_supported
from ftplatform.licensing.removal.closure import Ancestor, Cache, Closure, RowSet
from ftplatform.licensing.removal.matching import Matches, find
from ftplatform.licensing.removal.probe import probe_items, regurgitation
from ftplatform.licensing.rights import EdgeRole
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests import real_data
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.licensing.removal.world import BASE, base_model, lost_grant, near_duplicates, snapshot

CLAIMED_ROWS = 500


class World:
    """A claimant's file, and a corpus that holds parts of it under another name among much else."""

    def __init__(self, data: Path, folder: Path) -> None:
        records = real_data.read_csv(data / "dolly_slice" / "databricks_dolly_15k.csv.gz")
        said = [(f"{r['instruction']}\n\n{r['context']}", r["response"]) for r in records]
        theirs, self.rest = said[:CLAIMED_ROWS], [row(*pair, source="raw/dolly_rest") for pair in said[CLAIMED_ROWS:]]
        lines = [json.dumps({"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}) for a, b in theirs]
        (folder / "claim.jsonl").write_text("\n".join(lines))
        self.claimant, quarantined = read_claimed_rows(folder / "claim.jsonl")
        assert (self.claimant.num_rows, quarantined.num_rows) == (CLAIMED_ROWS, 0)
        self.theirs = theirs
        self.mirror = [row(*pair, source="raw/mirror") for pair in theirs[:250]]
        self.edited = [row(edit(a), edit(b), source="raw/mirror") for a, b in theirs[250:]]
        unrelated = pa.concat_tables([real_data.gsm8k(data, "train"), real_data.clinc150(data, "train")])
        self.unrelated = unrelated
        self.corpus = pa.concat_tables([unrelated, table(self.mirror), table(self.edited)])
        path = folder / "corpus.parquet"
        pq.write_table(self.corpus, path)
        self.row_set = RowSet(name="corpora/support", snapshot=snapshot("corpus"), read=path)


def edit(text: str) -> str:
    """Every thirtieth word replaced, case lost, an ending added: what a copier does who wants to look different."""
    words = ["moreover" if position % 30 == 29 else word for position, word in enumerate(text.lower().split())]
    return " ".join([*words, "indeed"])


@pytest.fixture(scope="module")
def world(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(shared_data, tmp_path_factory.mktemp("notice"))


@pytest.fixture(scope="module")
def claimed(world: World) -> Claimed:
    return resolve(Matcher(uris=("https://huggingface.co/datasets/databricks/databricks-dolly-15k",), rows=world.claimant))


@pytest.fixture(scope="module")
def matches(world: World, claimed: Claimed) -> Matches:
    return find(claimed, [world.row_set], near=near_duplicates)


@pytest.fixture(scope="module")
def ban(matches: Matches, claimed: Claimed) -> Ban:
    return matches.ban("notices/dolly", claimed)


def ids(rows: Sequence[dict[str, Any]]) -> set[str]:
    return {r["row_id"] for r in rows}


# ---- LIC-04: takedown by content ---------------------------------------------------------------------------------------------


def test_the_exact_mirror_is_found_completely_and_nothing_else_is_equal(world: World, matches: Matches) -> None:
    equal = matches.table.filter(matches.table["reason"] != "near")
    found = set(equal["row_id"])
    exact = ids(world.mirror)
    recall = len(found & exact) / len(exact)
    precision = len(found & (exact | ids(world.edited))) / len(found)
    assert (recall, precision) == (1.0, 1.0)
    # The corpus never says where the mirror came from: looking for the place finds nothing.
    assert not any("dolly" in origin for r in world.mirror for origin in r["origins"])


def test_the_edited_mirror_is_found_with_its_similarity(world: World, matches: Matches) -> None:
    near = matches.table.filter(matches.table["row_id"].is_in(list(ids(world.edited))))
    assert near.height / len(ids(world.edited)) == 1.0
    assert near["similarity"].min() >= 0.5  # type: ignore[operator]
    # A comparison of ids or of normalized texts misses them.
    assert not ids(world.edited) & set(world.claimant["row_id"].to_pylist())
    by_text = set(near.filter(near["reason"] == "text")["row_id"])
    assert len(by_text) / near.height < 0.05
    originals = dict(zip([r["row_id"] for r in world.edited], world.claimant["row_id"].to_pylist()[250:], strict=True))
    pairs = near.filter(near["reason"] == "near").select("row_id", "claimed").iter_rows()
    named = [originals[row_id] == claimed for row_id, claimed in pairs]
    assert sum(named) / len(named) > 0.95, "each is traced to the row it was made from"


def test_none_of_22_000_unrelated_rows_is_named(world: World, matches: Matches) -> None:
    assert matches.scanned == {"corpora/support": world.corpus.num_rows}
    assert world.unrelated.num_rows > 22_000
    assert not set(matches.table["row_id"]) & set(world.unrelated["row_id"].to_pylist())


def test_of_the_unclaimed_half_only_rows_with_claimed_passages_are_named(world: World, claimed: Claimed) -> None:
    """The hardest negatives: 500 rows nobody claimed, in the same style. Dolly repeats some paragraphs and a few whole rows."""
    rest = table(world.rest)
    found = find(claimed, [RowSet(name="rest", snapshot="r", read=lambda: [rest])], near=near_duplicates)
    passages = {passage for a, b in world.theirs for passage in (*a.splitlines(), b) if len(passage.split()) >= 8}
    sharing = {
        r["row_id"] for r in world.rest if any(line in passages for m in r["messages"] for line in m["content"].splitlines())
    }
    named, banned = set(found.table["row_id"]), set(found.banned)
    assert len(named) == 22
    assert len(banned) == 8
    assert banned <= sharing, "what falls by default repeats a claimed passage word for word"
    # One row more is listed: another excerpt of the same article, at .56. One passage is short beside the rest of its row.
    assert len(named - sharing) == 1
    assert len(sharing - named) == 1


# ---- LIC-13: the certificate, and what makes it refuse -----------------------------------------------------------------------


class WordModel:
    """A language model that runs anywhere: after six words, three or one, the word that followed first in training."""

    ORDERS = (6, 3, 1)

    def __init__(self, texts: Sequence[str]) -> None:
        self.following: dict[tuple[str, ...], str] = {}
        for text in texts:
            words = text.split()
            for order in self.ORDERS:
                for position in range(order, len(words)):
                    self.following.setdefault(tuple(words[position - order : position]), words[position])

    def __call__(self, prompts: Sequence[str], max_words: int) -> list[str]:
        return [" ".join(self._continue(prompt.split(), max_words)) for prompt in prompts]

    def _continue(self, words: list[str], count: int) -> list[str]:
        said: list[str] = []
        for _ in range(count):
            context = [*words, *said][-6:]
            found = (self.following.get(tuple(context[-order:])) for order in self.ORDERS)
            said.append(next((word for word in found if word is not None), "and"))
        return said


def texts_of(rows: pa.Table) -> list[str]:
    return ["\n\n".join(m["content"] for m in messages) for messages in rows["messages"].to_pylist()]


class Remediation:
    """An adapter rebuilt from the base model on what is left of the corpus."""

    def __init__(self, world: World, matches: Matches, claimed: Claimed, ban: Ban) -> None:
        self.claimed, self.ban = claimed, ban
        named = set(matches.table["row_id"])
        keep = [i not in named for i in world.corpus["row_id"].to_pylist()]
        self.rows = world.corpus.filter(pa.array(keep))
        self.base = WordModel(texts_of(self.rows.slice(0, 2000)))
        self.clean_model = WordModel(texts_of(self.rows))
        self.tainted_model = WordModel(texts_of(world.corpus))
        self.items = probe_items(texts_of(world.claimant.slice(0, 250)) + texts_of(world.claimant.slice(250)))

    def closure(self, *more: dict[str, Any], name: str = "adapters/remediated", **parts: Any) -> Closure:
        rows = pa.concat_tables([self.rows, table(more)]) if more else self.rows
        return Closure(
            artifact=name,
            snapshot=snapshot(name),
            weights=snapshot(f"weights of {name}"),
            row_sets=(RowSet(name="splits/support", snapshot=snapshot(name + "rows"), read=rows.to_batches),),
            ancestors=(base_model(), *parts.pop("ancestors", ())),
            **parts,
        )

    def probe(self, closure: Closure, model: WordModel) -> Verdict:
        return regurgitation(self.items, model, self.base, artifact=closure.snapshot, base=BASE, ban=self.ban.digest)

    def check(self, closure: Closure, probe: Verdict | None = None) -> Verdict:
        probe = probe or self.probe(closure, self.clean_model)
        return influence_removed(closure, self.ban, clean={BASE}, probe=probe, claimed=self.claimed, near=near_duplicates)


@pytest.fixture(scope="module")
def remediation(world: World, matches: Matches, claimed: Claimed, ban: Ban) -> Remediation:
    return Remediation(world, matches, claimed, ban)


def test_the_probe_tells_a_model_that_saw_the_rows_from_one_that_did_not(remediation: Remediation) -> None:
    closure = remediation.closure()
    clean, tainted = (remediation.probe(closure, m) for m in (remediation.clean_model, remediation.tainted_model))
    assert (clean.decision, clean.n, clean.details["excess"]) == (Decision.PASS, 299, 0)
    assert clean.details["long_enough"] == 299
    assert tainted.decision is Decision.FAIL
    assert tainted.estimate is not None
    assert tainted.estimate > 0.2


def test_a_clean_rebuild_earns_the_certificate(remediation: Remediation) -> None:
    closure, ban = remediation.closure(), remediation.ban
    verdict = remediation.check(closure)
    assert verdict.decision is Decision.PASS, verdict.summary
    assert closure.weights is not None
    replay = Replay(closure.digest, closure.weights, sha256_hex(b"replay record"))
    certificate = certify(verdict, closure, ban, policy=sha256_hex(b"policy"), at=datetime.now(UTC), replay=replay)
    assert [certificate.document["levels"][level]["reached"] for level in ("L1", "L2")] == [True, True]
    assert certificate.document["counts"]["rows"] == remediation.rows.num_rows
    assert verify(Certificate.from_bytes(certificate.to_bytes()), closure, ban) == ()
    assert "notices/dolly" in render(certificate)


def test_each_planted_thing_makes_it_refuse_and_name_it(world: World, remediation: Remediation) -> None:
    seed = world.mirror[3]
    child = row("Tell me about it.", "A sentence of our own about something.", source="synthetic/x", parents=[seed["row_id"]])
    again = row(*(m["content"] + " indeed" for m in world.mirror[9]["messages"]), source="raw/other")
    old = remediation.closure(world.mirror[5], name="adapters/old")
    index = table([world.mirror[7]]).select(["row_id"])
    planted: dict[str, tuple[Closure, tuple[str, ...]]] = {
        "one banned row": (remediation.closure(world.mirror[0]), ("row", world.mirror[0]["row_id"])),
        "one synthetic child": (remediation.closure(child), ("row", child["row_id"], "derived")),
        "one continued adapter": (
            remediation.closure(ancestors=(Ancestor("adapters/old", EdgeRole.CONTINUED_ADAPTER, old.snapshot, old),)),
            ("row", "continued_adapter adapters/old", world.mirror[5]["row_id"]),
        ),
        "a row in a cache": (
            remediation.closure(caches=(Cache(name="dedup/index", kind="dedup index", snapshot="i", read=lambda: [index]),)),
            ("cache", "dedup/index", world.mirror[7]["row_id"]),
        ),
        "a near duplicate": (remediation.closure(again), ("near", again["row_id"])),
    }
    for what, (closure, named) in planted.items():
        verdict = remediation.check(closure)
        assert verdict.decision is Decision.FAIL, what
        told = " ".join(str(value) for value in verdict.evidence[0].values())
        assert all(name in told for name in named), (what, told)
        with pytest.raises(CertificateRefused, match="influence_removed says"):
            certify(verdict, closure, remediation.ban, policy=sha256_hex(b"p"), at=datetime.now(UTC))
    # A looser copy does not fall by itself, but it stops the certificate until a person has looked.
    similar = row(*(edit(m["content"]) for m in world.mirror[9]["messages"]), source="raw/other")
    waiting = remediation.check(remediation.closure(similar))
    assert (waiting.decision, waiting.evidence[0]["row_id"]) == (Decision.WARN, similar["row_id"])
    # Case 2.2, naive: the child's own origin and id are not banned, so a check of origins and ids passes.
    assert child["row_id"] not in set(remediation.ban.row_ids)
    assert not set(child["origins"]) & {"raw/mirror"}


def test_recitation_alone_refuses(remediation: Remediation) -> None:
    """The declared rows are clean and the model still knows the text: the declaration is not the whole story."""
    closure = remediation.closure()
    verdict = remediation.check(closure, remediation.probe(closure, remediation.tainted_model))
    assert (verdict.decision, verdict.evidence[0]["kind"]) == (Decision.FAIL, "probe")


# ---- case 2.3 and LIC-05 -----------------------------------------------------------------------------------------------------


def test_when_a_grant_ends_rows_with_another_origin_stay_and_under_a_takedown_they_fall(
    remediation: Remediation, world: World
) -> None:
    """Half of the source's rows are also in a licensed copy. Naive: the source column says B, so all of them are deleted."""
    shared = [{**r, "origins": ["raw/licensed", "raw/mirror"]} for r in world.mirror[:125]]
    closure = remediation.closure(*shared)
    ended = lost_grant("raw/mirror")
    probe = regurgitation(
        remediation.items, remediation.clean_model, remediation.base, artifact=closure.snapshot, base=BASE, ban=ended.digest
    )
    verdict = influence_removed(closure, ended, clean={BASE}, probe=probe)
    assert (verdict.decision, verdict.details["kept_by_another_origin"]) == (Decision.PASS, 125)
    assert sum(r["source"] == "raw/mirror" for r in shared) == 125
    takedown = remediation.check(closure)
    assert (takedown.decision, takedown.estimate) == (Decision.FAIL, 125)


def test_a_taken_down_eval_set_costs_the_claims_and_not_the_weights(remediation: Remediation, world: World) -> None:
    tainted = RowSet(name="eval_sets/qa", snapshot=snapshot("qa"), role=EdgeRole.EVALUATES, read=lambda: [table(world.mirror[:30])])
    fine = RowSet(name="eval_sets/maths", snapshot=snapshot("maths"), role=EdgeRole.EVALUATES, read=lambda: [world.unrelated[:30]])
    closure = remediation.closure()
    measured = Closure(
        artifact=closure.artifact,
        snapshot=closure.snapshot,
        row_sets=(*closure.row_sets, tainted, fine),
        ancestors=closure.ancestors,
    )
    assert remediation.check(measured).passed
    claims = [Claim("releases/r", "answers 80 %", (tainted.snapshot,)), Claim("releases/r", "solves 40 %", (fine.snapshot,))]
    verdict = claims_supported(claims, [tainted, fine], remediation.ban)
    assert verdict.decision is Decision.FAIL
    assert [claim["standing"] for claim in verdict.details["claims"]] == ["unsupported", "supported"]
