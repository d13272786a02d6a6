"""Synthetic sets in the project file: who writes them, what is done to look like real inputs, and what they are measured by (mode M9)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ftplatform.project.fields import EnvironmentVariable, Model, Name, Uri
from ftplatform.project.problems import KeyPath, Problem, ProjectFileError
from ftplatform.project.yaml_source import YamlDocument, parse_yaml
from ftplatform.rows.schema import Surface
from ftplatform.transport.errors import TransportError
from ftplatform.transport.json_post import require_safe_url

if TYPE_CHECKING:
    from ftplatform.project.models import Project
    from ftplatform.project.places import UriKind

_REAL_SHARE = Field(gt=0.0, le=1.0)
Text = Annotated[str, Field(min_length=1, max_length=20_000)]
SideFile = TypeVar("SideFile", bound=Model)


class Realism(Model):
    """How user turns are compared with what users really type."""

    calibrate_by: Annotated[str, Field(pattern=r"^(source|slice|meta:[^']{1,100})$")] | None = None
    """What names the parts of the production inputs (domains, topics): `source`, `slice` (the first one) or `meta:KEY`. The limits of
    `input_surface_match` then follow from how much these parts differ from each other."""
    parts: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    """The parts to compare; the six largest by default."""
    max_age_days: Annotated[float, Field(gt=0)] = 90
    """Median age from which production inputs are too old to measure by."""
    real_evals: list[Name] = []
    """Eval sets whose questions users typed to the product. A release of an adapter trained on synthetic rows hangs on one of them."""


class GrammarWriter(Model):
    """A template grammar: data, nothing of it is executed."""

    file: Uri
    """YAML file with `rules` and `shared`."""


class _Sampling(Model):
    temperature: float = Field(default=1.0, ge=0, le=2)
    """Of the sampling; 0 says the same to the same examples."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Smallest set of tokens with this probability is sampled from."""
    max_tokens: int = Field(default=128, ge=8, le=4096)
    """Length limit of what is written."""


class LocalWriter(_Sampling):
    """A model on this machine."""

    path: Uri
    """Folder with safetensors weights and a tokenizer."""


class EndpointWriter(_Sampling):
    """A server that speaks the OpenAI chat-completions protocol."""

    url: Uri
    """Base address: https, or http on this machine."""
    model: str
    """Name the server knows it by; a dated one where there is one."""
    api_key_env: EnvironmentVariable | None = None
    """Environment variable that holds the server's key."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests under way at once."""


class TranscriptWriter(Model):
    """What a model wrote before; nobody is asked."""

    path: Uri
    """JSON Lines of transcripts."""


class Generate(Model):
    """A set that is written when it is built. Give exactly one of `grammar`, `local_model`, `endpoint` and `transcripts`."""

    grammar: GrammarWriter | None = None
    """A template grammar writes it."""
    local_model: LocalWriter | None = None
    """A model on this machine writes it."""
    endpoint: EndpointWriter | None = None
    """A server writes it; what was said is kept and never asked for again."""
    transcripts: TranscriptWriter | None = None
    """Transcripts are replayed."""
    rows: int = Field(ge=1, le=1_000_000)
    """Rows wanted."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of everything that is drawn."""
    prompt: Uri | None = None
    """YAML file with what a model is told: `system`, `answer`, `examples`."""
    inputs_only: bool = False
    """The set holds user turns without answers: it can be measured and not trained on."""

    @model_validator(mode="after")
    def _one_writer(self) -> Generate:
        if sum(writer is not None for writer in (self.grammar, self.local_model, self.endpoint, self.transcripts)) != 1:
            raise ValueError("give exactly one of 'grammar', 'local_model', 'endpoint' and 'transcripts'")
        if self.grammar is not None and self.prompt is not None:
            raise ValueError("a grammar is told nothing; leave out 'prompt'")
        if self.grammar is None and self.prompt is None and not self.inputs_only:
            raise ValueError("a model needs a 'prompt' file whose 'answer' says how to answer; or give 'inputs_only: true'")
        return self


class RemedyEntry(Model):
    """One remedy: `style`, or `resample`, `mix` or `slips` with their `share`."""

    kind: Literal["style", "resample", "mix", "slips"]
    """`style` closes measured gaps, `resample` has the teacher write again from real seeds, `mix` puts real rows in, `slips` puts in
    typing errors."""
    share: Annotated[float, _REAL_SHARE] | None = None
    """Share of the rows that is written again or real in the end; for `slips`, of the user turns."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of everything that is drawn."""

    @model_validator(mode="after")
    def _share_where_it_counts(self) -> RemedyEntry:
        if (self.kind == "style") != (self.share is None):
            raise ValueError(
                "'style' goes as far as the real rate and takes no 'share'" if self.share else f"{self.kind!r} needs a 'share'"
            )
        return self


def _named_remedy(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Remedy = Annotated[RemedyEntry, BeforeValidator(_named_remedy, json_schema_input_type=str | RemedyEntry)]


class PromptFile(Model):
    """What a model is told."""

    system: Text | None = None
    """How to write one user turn; the platform's own text by default."""
    answer: Text | None = None
    """System message under which the new user turn is answered."""
    examples: int = Field(default=4, ge=1, le=50)
    """Real inputs shown for each new one."""


class Production(Model):
    """One way to say a symbol."""

    text: str
    """With `{symbol}`, `{symbol:0.4}` for a part that is there four times out of ten, and `{seed}` for a user turn of the seeds."""
    weight: Annotated[float, Field(gt=0, lt=1e9)] = 1.0
    """How often, relative to the others."""


def _text_alone(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class GrammarFile(Model):
    """A grammar: the rule `user` writes the user turn, `assistant` the answer."""

    rules: dict[str, Annotated[list[Annotated[Production, BeforeValidator(_text_alone)]], Field(min_length=1)]]
    """Symbol to the ways to say it."""
    shared: list[str] = []
    """Symbols that have one value in the whole row, so that the answer speaks of what the question asked."""


def load_side_file(model: type[SideFile], data: bytes, *, file: str) -> SideFile:
    """A prompt or grammar file, read like the project file itself.

    Raises:
        ProjectFileError: with every problem, each with its line.
    """
    document, problems = parse_yaml(data, file)
    if document is None or problems:
        raise ProjectFileError(problems)
    try:
        return model.model_validate(document.root.plain())
    except ValidationError as error:
        raise ProjectFileError([_problem(document, detail) for detail in error.errors(include_url=False)]) from None


def _problem(document: YamlDocument, detail: Any) -> Problem:
    path, position, _ = document.walk([part for part in detail["loc"] if part != "[key]"])
    message = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
    return Problem(file=document.file, line=position.line, column=position.column, path=path, message=message)


def generation_places(project: Project) -> Iterator[tuple[KeyPath, str, UriKind]]:
    """The places that `generate` blocks point to, as `places.uris` gives those of the other blocks."""
    for name, block in project.synthetic.items():
        generate, path = block.generate, ("synthetic", name, "generate")
        if generate is None:
            continue
        if generate.grammar is not None:
            yield (*path, "grammar", "file"), generate.grammar.file, "policy"
        if generate.local_model is not None:
            yield (*path, "local_model", "path"), generate.local_model.path, "model"
        if generate.transcripts is not None:
            yield (*path, "transcripts", "path"), generate.transcripts.path, "policy"
        if generate.prompt is not None:
            yield (*path, "prompt"), generate.prompt, "policy"


def check_synthetic(project: Project, report: Callable[..., None]) -> None:
    """Reports what the blocks say about synthetic sets that cannot be: above all, what measures a set must not be what it was made of."""
    exams = {_normal(uri): name for name, spec in project.eval_sets.items() for uri in spec.path}
    for name, block in project.synthetic.items():
        path = ("synthetic", name)
        generate = block.generate
        if generate is not None and generate.endpoint is not None:
            try:
                require_safe_url(generate.endpoint.url)
            except TransportError as error:
                report((*path, "generate", "endpoint", "url"), f"{error.message} {error.remedy}")
        if generate is not None and generate.grammar is None and not block.seeds:
            report((*path, "generate"), "a model is shown real inputs; name sources in 'seeds'")
        for index, remedy in enumerate(block.remedies):
            place = (*path, "remedies", index)
            if remedy.kind == "resample" and generate is None:
                report(place, "a recorded set has nobody to write again; use 'mix', or give it a 'generate' block")
            if remedy.kind != "slips" and not real_seeds_of(project, name):
                report(place, f"{remedy.kind!r} learns from what users typed: name a source with 'surface: production' in 'seeds'")
        if generate is not None or block.remedies:
            _check_seeds(project, name, exams, report)


def _check_seeds(project: Project, name: str, exams: dict[str, str], report: Callable[..., None]) -> None:
    block = project.synthetic[name]
    reference = project.sources.get(block.production_inputs or "")
    measured = {_normal(uri) for uri in reference.path} if reference is not None else set()
    for index, seed in enumerate(block.seeds):
        source, place = project.sources.get(seed), ("synthetic", name, "seeds", index)
        if source is None:
            continue
        if seed == block.production_inputs or measured & {_normal(uri) for uri in source.path}:
            report(
                place,
                f"{seed!r} holds the production inputs the set is measured by, so it must not seed it; keep a sample apart, for"
                " example another week, as a source of its own",
            )
        if source.surface in (Surface.EVAL, Surface.DEBUG):
            report(place, f"{seed!r} has surface '{source.surface}', whose rows seed nothing; take it out")
        for uri in source.path:
            if (exam := exams.get(_normal(uri))) is not None:
                report(place, f"{seed!r} is the file of eval set {exam!r}; an exam seeds nothing")
    for dataset, spec in project.datasets.items():
        if name not in spec.synthetic:
            continue
        if block.generate is not None and block.generate.inputs_only:
            report(("datasets", dataset, "synthetic", spec.synthetic.index(name)), f"{name!r} has no answers to train on")
        if spec.production_inputs in block.seeds:
            report(
                ("datasets", dataset, "production_inputs"),
                f"{spec.production_inputs!r} also seeds {name!r}, which is in the mix: the comparison is partly with itself",
                warning=True,
            )


def real_seeds_of(project: Project, name: str) -> list[str]:
    """The seeds of a synthetic set that hold what users typed."""
    seeds = project.synthetic[name].seeds
    return [s for s in seeds if s in project.sources and project.sources[s].surface is Surface.PRODUCTION]


def _normal(uri: str) -> str:
    return uri if "://" in uri else posixpath.normpath(uri)
