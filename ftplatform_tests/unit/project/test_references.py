from __future__ import annotations

from pathlib import Path

import pytest

from ftplatform.project.check_names import CHECKS_BY_MODE, KNOWN_CHECKS
from ftplatform.project.loading import load_project
from ftplatform.project.problems import Problem, ProjectFileError
from ftplatform_tests.unit.project.sample import VALID, changed, line_with, write


def problems_of(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ProjectFileError) as caught:
        load_project(write(folder, text))
    return caught.value.problems


@pytest.mark.parametrize(
    ("old", "new", "key", "suggestion"),
    [
        ("base: tiny", "base: tiney", "adapters.support.base", "tiny"),
        ("dataset: support", "dataset: suport", "adapters.support.dataset", "support"),
        ("sources: [tickets]", "sources: [tikets]", "datasets.support.sources[0]", "tickets"),
        ("synthetic: [paraphrases]", "synthetic: [paraphrase]", "datasets.support.synthetic[0]", "paraphrases"),
        ("feedback: [thumbs]", "feedback: [thumb]", "datasets.support.feedback[0]", "thumbs"),
        ("{source: refusals", "{source: refusal", "adapters.support.safety_mix.source", "refusals"),
        ("evals: [task, probes]", "evals: [task, prob]", "adapters.support.evals[1]", "probes"),
        ("rubric: helpful", "rubric: helpfull", "eval_sets.task.rubric", "helpful"),
        ("seeds: [tickets]", "seeds: [ticket]", "synthetic.paraphrases.seeds[0]", "tickets"),
        (
            "    production_inputs: production\n    slices",
            "    production_inputs: xyz\n    slices",
            "datasets.support.production_inputs",
            None,
        ),
        (
            "    production_inputs: production\nfeedback",
            "    production_inputs: productoin\nfeedback",
            "synthetic.paraphrases.production_inputs",
            "production",
        ),
        ("rewards.parquet, adapter: support", "rewards.parquet, adapter: suport", "rewards.ledger.adapter", "support"),
        ("logs/chat.csv, adapter: support", "logs/chat.csv, adapter: other", "endpoints.chat.adapter", None),
        ("  task_regression:", "  task_regresion:", "gates.task_regresion", "task_regression"),
    ],
)
def test_every_mention_must_be_declared(tmp_path: Path, old: str, new: str, key: str, suggestion: str | None) -> None:
    text = changed(old, new)
    (problem,) = problems_of(tmp_path, text)
    assert problem.key == key
    assert problem.suggestion == suggestion
    assert problem.allowed
    assert problem.line == line_with(text, new.strip().splitlines()[0])


def test_the_other_section_is_named_when_the_name_is_there(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, changed("    sources: [tickets]", "    sources: [tickets, thumbs]"))
    assert "there is one in 'feedback'" in problem.message


def test_eval_sets_are_not_trained_on_by_name_or_by_file(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, changed("    sources: [tickets]", "    sources: [tickets, task]"))
    assert "is an eval set" in problem.message
    text = changed("path: data/tickets.jsonl", "path: ./data/../eval//task.jsonl")
    (problem,) = problems_of(tmp_path, text)
    assert problem.key == "sources.tickets.path[0]" or problem.key == "sources.tickets.path"
    assert f"eval set 'task' (line {line_with(text, '  task: {')})" in problem.message
    (problem,) = problems_of(tmp_path, changed("path: data/refusals.jsonl", "path: eval/probes.jsonl"))
    assert "eval set 'probes'" in problem.message  # the safety mix is trained on too


@pytest.mark.parametrize("surface", ["debug", "eval"])
def test_debug_and_eval_rows_are_not_trained_on(tmp_path: Path, surface: str) -> None:
    text = changed("    owner: team:data", f"    surface: {surface}")
    (problem,) = problems_of(tmp_path, text)
    assert problem.key == "datasets.support.sources[0]"
    assert f"surface '{surface}'" in problem.message


def test_names_that_are_one_name_to_dagster(tmp_path: Path) -> None:
    text = changed("  refusals:\n", "  a-b: {path: x}\n  a_b: {path: y}\n  refusals:\n")
    (problem,) = problems_of(tmp_path, text)
    assert problem.key == "sources.a_b"
    assert f"'a-b' (line {line_with(text, 'a-b')})" in problem.message


def test_the_same_name_in_two_sections_is_fine(tmp_path: Path) -> None:
    text = VALID.replace("paraphrases", "tickets")
    assert "tickets" in load_project(write(tmp_path, text)).project.synthetic


def test_the_collision_rule_is_dagsters() -> None:
    import dagster as dg

    assert dg.AssetKey(["raw", "a-b"]).to_python_identifier() == dg.AssetKey(["raw", "a_b"]).to_python_identifier()
    assert dg.AssetKey(["raw", "a"]).to_python_identifier() != dg.AssetKey(["synthetic", "a"]).to_python_identifier()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("sources: [tickets]", "sources: [tickets, tickets]", "datasets.support.sources[1]"),
        ("evals: [task, probes]", "evals: [task, task]", "adapters.support.evals[1]"),
        (
            '{id: answers, text: "Does it answer?", rule: {kind: reference}}',
            "{id: a, text: x, rule: {kind: json}}\n      - {id: a, text: y, rule: {kind: json}}",
            "rubrics.helpful.criteria[1].id",
        ),
    ],
)
def test_nothing_is_listed_twice(tmp_path: Path, old: str, new: str, key: str) -> None:
    (problem,) = problems_of(tmp_path, changed(old, new))
    assert problem.key == key
    assert "twice" in problem.message


@pytest.mark.parametrize("key", ["paraphrase_of", "fresh_for"])
@pytest.mark.parametrize(
    ("vault", "own", "named", "message"),
    [
        ("vault: true", "", "exam", None),
        ("vault: true", "", "exams", "there is no 'exams' in 'eval_sets'"),
        ("vault: true", "", "twin", "names the set itself"),
        ("vault: false", "", "exam", "'exam' is no vault"),
        ("vault: true, kind: behavior_probes", "", "exam", "'exam' has kind 'behavior_probes'"),
        ("vault: true", ", kind: behavior_probes", "exam", "'twin' has kind 'behavior_probes'"),
        ("vault: true, metric: contains", "", "exam", "'exam' is scored by contains, 'twin' by exact_match"),
    ],
)
def test_the_counterpart_of_a_vault(tmp_path: Path, key: str, vault: str, own: str, named: str, message: str | None) -> None:
    sets = f"  exam: {{path: eval/exam.jsonl, {vault}}}\n  twin: {{path: eval/twin.jsonl, {key}: {named}{own}}}\nbase_models:\n"
    text = changed("base_models:\n", sets)
    if message is None:
        assert getattr(load_project(write(tmp_path, text)).project.eval_sets["twin"], key) == named
        return
    (problem,) = problems_of(tmp_path, text)
    assert problem.key == f"eval_sets.twin.{key}"
    assert problem.line == line_with(text, "  twin:")
    assert message in problem.message
    assert problem.suggestion == ("exam" if named == "exams" else None)


def test_a_rewording_is_not_new(tmp_path: Path) -> None:
    sets = "  exam: {path: e, vault: true}\n  twin: {path: t, paraphrase_of: exam, fresh_for: exam}\nbase_models:\n"
    (problem,) = problems_of(tmp_path, changed("base_models:\n", sets))
    assert problem.key == "eval_sets.twin"
    assert "at most one" in problem.message


def test_comparing_real_inputs_with_themselves_warns(tmp_path: Path) -> None:
    text = changed("    sources: [tickets]", "    sources: [tickets, production]")
    warnings = load_project(write(tmp_path, text)).warnings
    assert {w.key for w in warnings} == {"datasets.support.production_inputs", "synthetic.paraphrases.production_inputs"}
    assert all("partly with itself" in w.message and "warning: " in str(w) for w in warnings)


def test_a_gate_that_changes_nothing_warns(tmp_path: Path) -> None:
    (warning,) = load_project(write(tmp_path, changed("{threshold: 0.02, severity: error}", "{}"))).warnings
    assert warning.key == "gates.task_regression"


def test_a_threshold_on_an_exact_rule_is_refused(tmp_path: Path) -> None:
    text = changed("task_regression: {threshold", "contamination_exact: {threshold")
    (problem,) = problems_of(tmp_path, text)
    assert (problem.key, problem.line) == ("gates.contamination_exact.threshold", line_with(text, "contamination_exact"))
    assert "severity" in problem.message


def test_known_checks_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, changed("task_regression", "my_check"))
    assert "my_check" in load_project(path, known_checks=["my_check"]).project.gates
    with pytest.raises(ProjectFileError, match="no check 'my_check'"):
        load_project(path)


def test_check_names_are_distinct_and_legal_in_dagster() -> None:
    assert len(set(KNOWN_CHECKS)) == len(KNOWN_CHECKS) == 70
    assert set(CHECKS_BY_MODE) == {"", *(f"M{n}" for n in range(1, 13))}
    assert all(name.replace("_", "").isalnum() and name.islower() for name in KNOWN_CHECKS)


@pytest.mark.parametrize("zone", ["Europe/Pariss", "Europe", "../../etc/passwd", "/etc/localtime", "x" * 300, "C ET", "Utc\\x00"])
def test_time_zones(tmp_path: Path, zone: str) -> None:
    (problem,) = problems_of(tmp_path, changed("timezone: Europe/Paris", f"timezone: '{zone}'"))
    assert problem.key == "schedules.timezone"
    assert "IANA" in problem.message


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/Argentina/Buenos_Aires"])
def test_real_time_zones(tmp_path: Path, zone: str) -> None:
    assert load_project(write(tmp_path, changed("timezone: Europe/Paris", f"timezone: {zone}"))).project.schedules.timezone == zone


def test_a_bad_cron_line_says_which_field(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, changed('"30 2 * * *"', '"30 25 * * *"'))
    assert problem.key == "schedules.nightly"
    assert "hour: '25' is outside 0 to 23" in problem.message


@pytest.mark.parametrize(
    ("old", "new", "key", "part"),
    [
        ("path: data/tickets.jsonl", "path: gopher://h/x", "sources.tickets.path", "unknown scheme"),
        ("path: data/tickets.jsonl", "path: [a.jsonl, 's3://b/../x']", "sources.tickets.path[1]", "segment"),
        ("store: .ftplatform/store", "store: https://h/x", "store", "not accepted here"),
        ("store: .ftplatform/store", "store: s3://B/x", "store", "bucket name"),
        ("path: data/tickets.jsonl", "path: s3://bucket", "sources.tickets.path", "names no file"),
        ("path: models/tiny", "path: s3://bucket/tiny", "base_models.tiny.path", "local path is needed"),
        ("path: models/tiny", "path: models/*", "base_models.tiny.path", "pattern"),
        ("evidence: LICENSES/MIT.txt", "evidence: LICENSES/*.txt", "sources.tickets.license.evidence", "pattern"),
        ("path: models/tiny", f"hub: a/b/c\n    revision: {'0' * 40}", "base_models.tiny.hub", "not a hub id"),
        ("use: [train", "license_policy: https://h/p.yaml\nuse: [train", "license_policy", "local path is needed"),
    ],
)
def test_uris_go_through_the_guard(tmp_path: Path, old: str, new: str, key: str, part: str) -> None:
    (problem,) = problems_of(tmp_path, changed(old, new))
    assert problem.key.removesuffix("[0]") == key
    assert part in problem.message


def test_an_unpinned_hub_file_warns(tmp_path: Path) -> None:
    moving = changed("path: data/tickets.jsonl", "path: hf://datasets/org/name/train.jsonl")
    (warning,) = load_project(write(tmp_path, moving)).warnings
    assert "pin it" in warning.message
    pinned = changed("path: data/tickets.jsonl", f"path: hf://datasets/org/name@{'a' * 40}/train.jsonl")
    assert load_project(write(tmp_path, pinned)).warnings == ()


CREDENTIALS = {
    "password in URL": "https://user:hunter2hunter2@host/x",
    "user in URL": "s3://AKEY@bucket/x",
    "postgres": "postgresql+psycopg2://dagster:hunter2@db/dagster",
    "signed URL": "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=0123456789abcdef",
    "token in URL": "https://host/x?access_token=0123456789",
    "AWS": "AKIAABCDEFGHIJKLMNOP",
    "Hugging Face": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "GitHub": "ghp_abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
    "Slack token": "xoxb-123456789012-abcdefghij",
    "Slack hook": "https://hooks.slack.com/services/T0/B0/abcdef",
    "API key": "sk-abcdefghijklmnopqrstuvwx",
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("secret", CREDENTIALS.values(), ids=CREDENTIALS)
@pytest.mark.parametrize(("old", "key"), [("data/tickets.jsonl", "sources.tickets.path"), ("team-secret-place", "description")])
def test_credentials_are_refused_anywhere_and_never_repeated(tmp_path: Path, secret: str, old: str, key: str) -> None:
    text = VALID.replace("use: [train", "description: team-secret-place\nuse: [train").replace(old, f'"{secret}"')
    found = problems_of(tmp_path, text)
    assert [p.key for p in found] == [key]
    assert "belong into the environment" in found[0].message
    assert secret not in str(found[0])


@pytest.mark.parametrize(
    "option",
    ["secret", "key", "token", "password", "aws_secret_access_key", "api_key", "aws_access_key_id", "account_key", "sas_token"],
)
def test_store_options_that_are_credentials(tmp_path: Path, option: str) -> None:
    (problem,) = problems_of(tmp_path, changed("use: [train", f"store_options: {{{option}: abc}}\nuse: [train"))
    assert problem.key == f"store_options.{option}"


@pytest.mark.parametrize(
    "text",
    [
        changed("use: [train", "store_options: {endpoint_url: 'http://127.0.0.1:8333', region: us-east-1}\nuse: [train"),
        changed("Does it answer?", "Does it mention sk-8 or AKIA or hf_token?"),
        changed("path: models/tiny", f"hub: org/name\n    revision: {'0123456789abcdef' * 2}01234567"),
        changed("use: [train", "description: 'see https://example.com/a?page=2, mail ana@example.com'\nuse: [train"),
    ],
)
def test_what_only_looks_a_little_like_a_credential_passes(tmp_path: Path, text: str) -> None:
    assert load_project(write(tmp_path, text)).warnings == ()


def test_environment_variables_are_not_substituted(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, changed("path: data/refusals.jsonl", 'path: "${DATA:-/tmp}/x.jsonl"'))
    assert problem.key == "sources.refusals.path"
    assert "'${DATA:-/tmp}' is not substituted" in problem.message
    # A prompt template may hold one.
    text = changed("    base: tiny", '    system_prompt: "You help ${customer}."\n    base: tiny')
    assert load_project(write(tmp_path, text)).project.adapters["support"].system_prompt == "You help ${customer}."


def test_references_are_checked_although_a_block_is_wrong(tmp_path: Path) -> None:
    text = (
        changed("steps: 20", "steps: x")
        .replace("base: tiny", "base: tny")
        .replace("path: data/tickets.jsonl", "pth: data/tickets.jsonl")
    )
    keys = [p.key for p in problems_of(tmp_path, text)]
    # `tickets` is declared, only wrong: nobody is told that it does not exist.
    assert keys == ["sources.tickets.pth", "adapters.support.base", "adapters.support.training.steps"]
