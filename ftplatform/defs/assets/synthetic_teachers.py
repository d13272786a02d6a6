"""The teacher that a `generate` block names, made from the block and the files it points to; what it says is kept in the store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ftplatform.canonical import digest
from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.errors import EvaluationError, InputDataError, ProjectError, UnsafeModel
from ftplatform.evaluation.recording import Recording
from ftplatform.project.data import Synthetic
from ftplatform.project.synthesis import GrammarFile, LocalWriter, PromptFile, SideFile, load_side_file
from ftplatform.store import Snapshot, Store
from ftplatform.synthesis.teachers.endpoint import ChatEndpoint
from ftplatform.synthesis.teachers.grammar import Grammar, GrammarTeacher
from ftplatform.synthesis.teachers.interface import Teacher, TeacherError
from ftplatform.synthesis.teachers.prompting import Complete, Messages, PromptedTeacher, TeacherPrompt
from ftplatform.synthesis.teachers.transcripts import TRANSCRIPT_SCHEMA, RecordedModel, TranscriptFile, recorded_settings
from ftplatform.transport.errors import TransportError
from ftplatform.transport.json_post import JsonPost
from ftplatform.transport.secrets import environment_secret

#: Exchanges with the teacher, beside the rows that came of them.
TRANSCRIPTS_FILE = "transcripts.parquet"


@dataclass(frozen=True)
class Writer:
    """A teacher, and the model behind it with its exchanges; None for a grammar, which asks nobody.

    `replayed` is the digest of a file of transcripts: what it says under the same requests decides too.
    """

    teacher: Teacher
    model: RecordedModel | None = None
    replayed: str | None = None


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors of a teacher name the entry of the project file; those of the store are nobody's fault here and pass."""
    try:
        yield
    except (InputDataError, TransportError, EvaluationError, UnsafeModel, ProjectError) as error:
        raise TeacherError(f"synthetic.{name}: {error.message}", remedy=error.remedy) from error


def terms_of(block: Synthetic) -> str | None:
    """Terms of the teacher's outputs, as its rows carry them: what a person concluded, else what its maker declares."""
    return block.teacher.license.concluded or block.teacher.license.declared


def writer_of(plan: Plan, name: str, store: Store) -> Writer:
    """The writer of a set with a `generate` block; a model is loaded, or asked, when something is not recorded.

    Raises:
        InputDataError, ProjectError: naming the file that cannot be read, or the line in it.
        TransportError: the endpoint's address is not allowed.
        EvaluationError: the model's folder holds no files.
    """
    block = plan.project.synthetic[name]
    generate = block.generate
    assert generate is not None
    if generate.grammar is not None:
        content = _side_file(plan, GrammarFile, generate.grammar.file)
        rules = {symbol: [p.model_dump() for p in productions] for symbol, productions in content.rules.items()}
        assistant = None if generate.inputs_only else "assistant"
        return Writer(GrammarTeacher(block.teacher.id, Grammar(rules, content.shared), terms_of(block), assistant=assistant))
    told = PromptFile() if generate.prompt is None else _side_file(plan, PromptFile, generate.prompt)
    if told.answer is None and not generate.inputs_only:
        raise InputDataError(f"{generate.prompt} has no 'answer'.", remedy="Say in it how to answer, or give 'inputs_only: true'.")
    kind, complete, settings, recorded = _model(plan, name)
    log = None
    replayed = digest(recorded.to_pylist()) if recorded is not None else None
    if complete is not None:
        recorded = _exchanges(store, asset_name(Family.SYNTHETIC, name))
        log = Recording(
            store.backend, f"transcripts/{digest({'teacher': block.teacher.id, 'settings': dict(settings)})}", TRANSCRIPT_SCHEMA
        )
    model = RecordedModel(complete, settings, log=log, recorded=recorded, task=f"ask for {name}")
    prompt = TeacherPrompt(answer=None if generate.inputs_only else told.answer, examples=told.examples)
    if told.system is not None:
        prompt = TeacherPrompt(told.system, prompt.answer, prompt.examples)
    return Writer(PromptedTeacher(block.teacher.id, model, terms_of(block), kind, prompt, settings), model, replayed)


def _model(plan: Plan, name: str) -> tuple[str, Complete | None, Mapping[str, Any], pa.Table | None]:
    """Kind, model (None to replay only), its settings, transcripts to replay."""
    generate = plan.project.synthetic[name].generate
    assert generate is not None
    if generate.endpoint is not None:
        spec = generate.endpoint
        secret = environment_secret(spec.api_key_env) if spec.api_key_env is not None else None
        chat = ChatEndpoint(
            post=JsonPost(url=f"{spec.url.rstrip('/')}/chat/completions", secret=secret),
            model=spec.model,
            temperature=spec.temperature,
            top_p=spec.top_p,
            max_tokens=spec.max_tokens,
            concurrency=spec.concurrency,
        )
        return "endpoint", chat, chat.settings, None
    if generate.local_model is not None:
        complete, settings = _local(_local_path(plan, generate.local_model.path), generate.local_model)
        return "model", complete, settings, None
    assert generate.transcripts is not None
    path = _local_path(plan, generate.transcripts.path)
    if not path.is_file():
        raise InputDataError(f"There is no file {generate.transcripts.path}.", remedy="Correct the path of the transcripts.")
    recorded = TranscriptFile(path).read()
    return "transcripts", None, recorded_settings(recorded, generate.transcripts.path), recorded


def _local(folder: Path, spec: LocalWriter) -> tuple[Complete, Mapping[str, Any]]:
    from ftplatform.evaluation.generation import Decoding, Generator, folder_digest

    decoding = Decoding(max_new_tokens=spec.max_tokens, temperature=spec.temperature, top_p=spec.top_p)
    loaded: list[Generator] = []

    def complete(conversations: Sequence[Messages], seeds: Sequence[int]) -> Sequence[str]:
        if not loaded:
            loaded.append(Generator.load(folder))
        return loaded[0].generate(conversations, decoding, seeds=seeds)

    # What was said is data and is replayed, so neither device nor library versions belong to what makes two requests the same.
    return complete, {"weights": folder_digest(folder), "decoding": decoding.key}


def _exchanges(store: Store, asset: str) -> pa.Table | None:
    """Those of the current snapshot: they go before whatever was said since."""
    head = store.head(asset)
    snapshot: Snapshot | None = store.snapshot(head.snapshot) if head is not None else None
    if snapshot is None or all(entry.path != TRANSCRIPTS_FILE for entry in snapshot.files):
        return None
    return snapshot.read_table(TRANSCRIPTS_FILE)


def _side_file(plan: Plan, model: type[SideFile], uri: str) -> SideFile:
    try:
        return load_side_file(model, _local_path(plan, uri).read_bytes(), file=uri)
    except OSError as error:
        raise InputDataError(f"{uri} cannot be read: {error.strerror}.", remedy="Correct the path.") from error


def _local_path(plan: Plan, uri: str) -> Path:
    path = plan.loaded.resolve(uri)
    if "://" in path:
        raise InputDataError(f"{uri} is not on this machine.", remedy="Copy it into the project.")
    return Path(path)
