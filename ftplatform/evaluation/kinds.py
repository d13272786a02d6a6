"""What eval sets measure."""

from enum import StrEnum


class Kind(StrEnum):
    """What an eval set measures; the values of `kind` in the project file."""

    TASK = "task"
    REFUSAL_PROBES = "refusal_probes"
    OVERREFUSAL_PROBES = "overrefusal_probes"
    HELPFULNESS_PROBES = "helpfulness_probes"
    BEHAVIOR_PROBES = "behavior_probes"
