"""What one record of an export says: a request, opinions of requests, or both.

Field names are those of the tools' public documentation: Langfuse API reference (trace with full details, scores); LangSmith, "Run
(span) data format" and "Feedback data format".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftplatform.feedback.exports.conversation import answer_of, prompt_of
from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.record_tables import moment, text, texts


@dataclass(frozen=True, slots=True)
class Subject:
    """A request that opinions are about.

    Attributes:
        key: its id. environment: where it was made, as the tool calls it; None if it does not say.
        conversation, prompt, answer, actor: columns of an event; the actor is whoever asked.
    """

    key: str
    conversation: str | None
    prompt: str
    answer: str | None
    environment: str | None
    actor: str | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """Something said of a request; `columns` are those of an event."""

    subject: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a record held. Opinions that could not be read are among `refused`, for they are records of their own."""

    subject: Subject | None = None
    opinions: list[Opinion] = field(default_factory=list)
    refused: list[Malformed] = field(default_factory=list)


_UP = frozenset({"up", "thumbs_up", "thumbsup", "thumbs up", "like", "positive", "good", "true", "yes", "\U0001f44d"})
_DOWN = frozenset({"down", "thumbs_down", "thumbsdown", "thumbs down", "dislike", "negative", "bad", "false", "no", "\U0001f44e"})


def thumb(key: str, value: Any) -> float | None:
    """A vote as 1 (up) or 0 (down); a number as it is."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (word := value.strip().lower()) in _UP | _DOWN:
        return float(word in _UP)
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        parsed = float("nan")
    if not -1e15 < parsed < 1e15:
        raise Malformed(Reason.WRONG_TYPE, f"{key} is no thumb and no number: {str(value)[:40]!r}")
    return parsed


#: Columns of a flat export to the names they go by.
_THUMBS = {
    "event_id": ("event_id", "id", "feedback_id"),
    "conversation": ("conversation", "conversation_id", "session_id", "session", "thread_id"),
    "prompt": ("prompt", "question", "input", "user_message"),
    "answer": ("answer", "response", "output", "completion", "bot_message"),
    "rating": ("rating", "thumb", "thumbs", "vote", "score"),
    "comment": ("comment", "comments", "feedback", "note"),
    "correction": ("correction", "corrected_answer", "suggested_answer", "expected"),
    "actor": ("actor", "user_id", "user", "rater"),
    "created_at": ("created_at", "timestamp", "time", "date"),
}
#: Columns that only count if the export has them under our own name: what they mean elsewhere is not known.
_OURS = {"surface": text, "intent_code": text, "correction_kind": text, "actor_role": text, "reviewers": texts}


def thumbs(record: Mapping[str, Any]) -> Parsed:
    """One vote a record, flat: request, thumb, comment."""
    found = {name: next((record[key] for key in keys if record.get(key) not in (None, "")), None) for name, keys in _THUMBS.items()}
    if found["event_id"] is None:
        raise Malformed(Reason.MISSING_FIELD, f"none of {', '.join(_THUMBS['event_id'])} is there")
    if found["prompt"] is None:
        raise Malformed(Reason.MISSING_FIELD, f"none of {', '.join(_THUMBS['prompt'])} is there")
    key = text("event_id", found["event_id"])
    columns: dict[str, Any] = {name: _maybe(name, found[name]) for name in ("comment", "correction", "actor")}
    columns |= {name: parse(name, record[name]) for name, parse in _OURS.items() if record.get(name) not in (None, "")}
    columns |= {"event_id": key, "rating": thumb("rating", found["rating"])}
    columns["created_at"] = None if found["created_at"] is None else moment("created_at", found["created_at"])
    environment = _maybe("environment", record.get("environment"))
    subject = Subject(
        key,
        _maybe("conversation", found["conversation"]),
        text("prompt", found["prompt"]),
        _maybe("answer", found["answer"]),
        environment,
        None,
    )
    return Parsed(subject, [Opinion(key, columns)])


def langfuse(record: Mapping[str, Any]) -> Parsed:
    """A Langfuse trace, with its scores in it or without, or a score by itself."""
    if "traceId" in record and "name" in record and "input" not in record:
        return Parsed(opinions=[_langfuse_score(record, text("traceId", record["traceId"]))])
    key = _required(record, "id")
    subject = Subject(
        key,
        _maybe("sessionId", record.get("sessionId")),
        prompt_of(record.get("input")),
        answer_of(record.get("output")),
        _maybe("environment", record.get("environment")),
        _maybe("userId", record.get("userId")),
    )
    # A list of traces names the scores by id only; then they come as records of their own.
    inside = [score for score in _list(record, "scores") if not isinstance(score, str)]
    return _with_opinions(subject, inside, _langfuse_score)


def _langfuse_score(score: Mapping[str, Any], trace: str) -> Opinion:
    value, kind = score.get("value"), str(score.get("dataType") or "NUMERIC").upper()
    numeric = kind in {"NUMERIC", "BOOLEAN"}
    # Of categories and corrections the text is in `stringValue` where the API also gives a number.
    said = None if numeric else _maybe("value", score.get("stringValue") or value)
    comment = _maybe("comment", score.get("comment"))
    when = next((score[name] for name in ("timestamp", "createdAt") if score.get(name) is not None), None)
    is_correction = kind == "CORRECTION"
    return Opinion(
        trace,
        {
            "event_id": _required(score, "id"),
            "rating": thumb("value", value) if numeric else None,
            "comment": comment if is_correction or said is None else "; ".join(filter(None, (said, comment))),
            "correction": said if is_correction else None,
            "actor": _maybe("authorUserId", score.get("authorUserId")),
            "actor_role": _maybe("source", score.get("source")),
            "created_at": None if when is None else moment("timestamp", when),
        },
    )


def langsmith(record: Mapping[str, Any]) -> Parsed:
    """A LangSmith run, with feedback in it or without, or feedback by itself."""
    if "run_id" in record and "key" in record:
        return Parsed(opinions=[_langsmith_feedback(record, text("run_id", record["run_id"]))])
    key = _required(record, "id")
    extra = record.get("extra")
    metadata = extra.get("metadata") if isinstance(extra, Mapping) else None
    metadata = metadata if isinstance(metadata, Mapping) else {}
    # `session_id` of a run is the project it was traced into; a conversation is what its metadata calls a thread or session.
    thread = next((metadata[name] for name in ("thread_id", "session_id", "conversation_id") if metadata.get(name)), None)
    subject = Subject(
        key,
        _maybe("thread_id", thread),
        prompt_of(record.get("inputs")),
        answer_of(record.get("outputs")),
        _maybe("environment", metadata.get("environment")),
        _maybe("user_id", metadata.get("user_id")),
    )
    return _with_opinions(subject, _list(record, "feedback"), _langsmith_feedback)


def _langsmith_feedback(feedback: Mapping[str, Any], run: str) -> Opinion:
    source = feedback.get("feedback_source")
    source = source if isinstance(source, Mapping) else {}
    value, comment = feedback.get("value"), _maybe("comment", feedback.get("comment"))
    said = value if isinstance(value, str) and value else None
    when = feedback.get("created_at")
    correction = feedback.get("correction")
    return Opinion(
        run,
        {
            "event_id": _required(feedback, "id"),
            "rating": thumb("score", feedback.get("score")),
            "comment": "; ".join(filter(None, (said, comment))) or None,
            "correction": None if correction in (None, "", {}) else answer_of(correction),
            "actor": _maybe("user_id", source.get("user_id")),
            "actor_role": _maybe("type", source.get("type")),
            "created_at": None if when is None else moment("created_at", when),
        },
    )


def _with_opinions(subject: Subject, records: list[Any], parse: Any) -> Parsed:
    parsed = Parsed(subject)
    for record in records:
        try:
            if not isinstance(record, Mapping):
                raise Malformed(Reason.NOT_AN_OBJECT, f"feedback on {subject.key[:80]} is a {type(record).__name__}")
            parsed.opinions.append(parse(record, subject.key))
        except Malformed as malformed:
            parsed.refused.append(malformed)
    return parsed


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(Reason.WRONG_TYPE, f"{key} must be a list, not {type(value).__name__}")
    return value


def _required(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None or value == "":
        raise Malformed(Reason.MISSING_FIELD, f"{key} is missing")
    return text(key, value)


def _maybe(key: str, value: Any) -> str | None:
    return None if value is None or value == "" else text(key, value)
