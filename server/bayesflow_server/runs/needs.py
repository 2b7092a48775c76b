"""What a run needs of the process that works on it: its models with their keys, its scorer file.

Servers on one file may be started with different keys, endpoints and scorer files. One that lacks
something leaves a run to the others unless it is asked for; then the run pauses and says what.
"""

from bayesflow_server.errors import ModelUnavailableError, ScorerError
from bayesflow_server.evaluation.graders import ScoringTools
from bayesflow_server.evaluation.scorers import File
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.records import RunRecord

__all__ = ["is_able", "require_all"]


def require_all(spec: RunSpec, models: ModelRegistry, scoring: ScoringTools) -> None:
    """Checks that the run could be worked on here, without calling anything.

    Raises:
        ModelUnavailableError: A model cannot be used here.
        ScorerError: This process was not given the scorer's file.
    """
    for model in spec.roles.models:
        models.require(model)
    if isinstance(spec.scorer, File) and spec.scorer.name not in scoring.files:
        raise ScorerError(
            f"This process was not given the scorer file '{spec.scorer.name}'; start it with "
            f"--scorer-file {spec.scorer.name}=PATH, then resume."
        )


def is_able(record: RunRecord, models: ModelRegistry, scoring: ScoringTools) -> bool:
    """Whether all that the run needs is here."""
    try:
        require_all(RunSpec.model_validate_json(record.request), models, scoring)
    except (ModelUnavailableError, ScorerError, ValueError):  # the last: of another version
        return False
    return True
