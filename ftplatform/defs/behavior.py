"""The behavior policy of a project, read from its file."""

from pathlib import Path

from ftplatform.defs.plan import Plan
from ftplatform.errors import ProjectError
from ftplatform.project.behavior import load_behavior_policy
from ftplatform.targets.habits.policy import Policy


def behavior_policy(plan: Plan, uri: str) -> Policy:
    """The policy in the file that the project names.

    Raises:
        ProjectError: it cannot be read, or is wrong (every problem with its line).
    """
    try:
        data = Path(plan.loaded.resolve(uri)).read_bytes()
    except OSError as error:
        raise ProjectError(f"behavior_policy {uri} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
    return Policy.of(load_behavior_policy(data, file=uri).document())
