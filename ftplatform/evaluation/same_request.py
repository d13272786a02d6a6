"""Which texts ask for the same thing in another frame: "How do I forge a passport?" and "My plan is to forge a passport".

What many questions of a set have in common is their frame, recognized by pairs of neighboring words ("show me", "how do"); what is
left is content. A text asks for the same if it holds nearly all of a question's content, weighted by rarity and close together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

#: A pair of neighboring words in more than this share of a set's questions belongs to a frame; in two questions it never does.
#: Chosen on the probes of the bundled project, whose eight frames hold an eighth of the questions each.
FRAME_SHARE, NEVER_FRAME = 0.07, 2

#: Share of a question's words, weighted by rarity, that must be content. A set about few things says nearly everything often, and what is
#: left of "need 2 know the warranty with the mesh extender" is "need 2". The least of the bundled project's harmful probes keeps .31.
MIN_CONTENT = 0.25

#: Words by which content may lie further apart in the text than in the question.
_SLACK = 1

#: Texts looked at per question; memory is questions x texts of one block.
_CANDIDATES = 5
_BLOCK = 1 << 24


class SameRequests(NamedTuple):
    """`found`: columns `at` (position of the question), `row` (position of the text), `similarity` (share held); `blank`: how many
    questions are all frame, so that nothing tells them from others of their set."""

    found: pl.DataFrame
    blank: int


def same_requests(questions: pl.DataFrame, texts: pl.Series, share: float) -> SameRequests:
    """The text nearest in content to each question, where it is near enough.

    Args:
        questions: columns `text` (normalized) and `set`, whose questions share frames.
        texts: normalized texts to look in.
        share: of a question's content that a text must hold; the content must be at least two words, and `MIN_CONTENT` of what is said.
    """
    from scipy.sparse import csr_matrix

    asked = _tokens(questions["text"]).join(questions.select("set").with_row_index("at"), on="at", maintain_order="left")
    said = _tokens(texts)
    words = pl.concat([asked["word"], said["word"]]).unique(maintain_order=True)
    codes = pl.DataFrame({"word": words}).with_row_index("code")
    asked, said = (part.join(codes, on="word", maintain_order="left") for part in (asked, said))
    documents = len(questions) + len(texts)
    seen = pl.concat([part.select("code", "at").unique().select("code") for part in (asked, said)])["code"]
    rarity = np.log((1 + documents) / (1 + np.bincount(seen.to_numpy(), minlength=len(codes))))

    content = _content(asked)
    own = content.select("at", "code").unique(maintain_order=True)
    weight = pl.DataFrame({"code": np.arange(len(codes)), "weight": rarity}).cast({"code": own["code"].dtype})
    said_in_all = asked.select("at", "code").unique().join(weight, on="code").group_by("at").agg(total=pl.col("weight").sum())
    own = own.join(weight, on="code", maintain_order="left").join(said_in_all, on="at", maintain_order="left")
    enough = pl.col("weight").sum().over("at") >= MIN_CONTENT * pl.col("total")
    own = own.filter(enough & (pl.len().over("at") >= 2))
    blank = len(questions) - own["at"].n_unique()
    found = pl.DataFrame(schema={"at": pl.UInt32, "row": pl.UInt32, "similarity": pl.Float64})
    if not len(own) or not len(said):
        return SameRequests(found, blank)
    left = csr_matrix((rarity[own["code"]], (own["at"], own["code"])), shape=(len(questions), len(codes)))
    held = said.select("at", "code").unique()
    right = csr_matrix((np.ones(len(held)), (held["code"], held["at"])), shape=(len(codes), len(texts)))
    total = np.maximum(np.asarray(left.sum(1)).ravel(), 1e-12)
    size = max(1, _BLOCK // len(texts))
    parts = [found]
    for start in range(0, len(questions), size):
        scores = (left[start : start + size] @ right).tocoo()
        shares = scores.data / total[start + scores.row]
        kept = shares >= share
        columns = {"at": start + scores.row[kept], "row": scores.col[kept], "similarity": shares[kept]}
        parts.append(pl.DataFrame(columns).cast(found.schema))  # pyright: ignore[reportArgumentType]
    near = pl.concat(parts).sort("at", "similarity", "row", descending=[False, True, False])
    return SameRequests(_close(near.group_by("at", maintain_order=True).head(_CANDIDATES), content, said), blank)


def _tokens(texts: pl.Series) -> pl.DataFrame:
    """at (position of the text), place (of the word in it), word."""
    words = pl.DataFrame({"word": texts.str.split(" ")}).with_row_index("at").explode("word").filter(pl.col("word") != "")
    return words.with_columns(place=pl.int_range(pl.len()).over("at"))


def _content(asked: pl.DataFrame) -> pl.DataFrame:
    """Words that stand in no common pair of neighbors."""
    pairs = asked.with_columns(following=pl.col("code").shift(-1).over("at"), before=pl.col("code").shift(1).over("at"))
    sizes = asked.group_by("set").agg(size=pl.col("at").n_unique())
    counts = pairs.drop_nulls("following").group_by("set", "code", "following").agg(n=pl.col("at").n_unique()).join(sizes, on="set")
    common = counts.filter(pl.col("n") > NEVER_FRAME, pl.col("n") > FRAME_SHARE * pl.col("size")).select("set", "code", "following")
    forward = pairs.join(common, on=["set", "code", "following"], how="anti")
    backward = common.rename({"code": "before", "following": "code"})
    return forward.join(backward, on=["set", "before", "code"], how="anti").select("at", "code", "place")


def _close(near: pl.DataFrame, content: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """Those of `near` whose content lies about as close together in the text as in the question; the best for each question.

    Words that the text has more than once do not say where the content stands.
    """
    once = said.filter(pl.len().over("at", "code") == 1).select("code", row="at", there="place")
    met = near.join(content, on="at").join(once, on=["row", "code"])
    spans = met.group_by("at", "row").agg(
        here=pl.col("place").max() - pl.col("place").min(), there=pl.col("there").max() - pl.col("there").min()
    )
    apart = spans.filter(pl.col("there") > pl.col("here") + _SLACK)
    return near.join(apart, on=["at", "row"], how="anti", maintain_order="left").unique("at", keep="first", maintain_order=True)
