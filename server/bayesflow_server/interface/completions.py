"""What a person may be about to type: ids of runs and workflows, names of models.

For the arguments of our prompts and of our resource templates. Asks no network; where the store
cannot be read, nothing is suggested.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mcp.types import Completion, PromptReference, ResourceTemplateReference

from bayesflow_server.errors import ServerError
from bayesflow_server.interface.addresses import is_ours
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.prompts import EXPLAIN, IMPROVE, OPTIMISE

if TYPE_CHECKING:
    from bayesflow_server.models.registry import ModelRegistry
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.marks import FoundIds

__all__ = ["Completions"]

# What the protocol allows in one answer.
_MOST: Final = 100


class Completions:
    """Suggests values."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def complete(
        self,
        reference: PromptReference | ResourceTemplateReference,
        argument: str,
        typed: str,
        run_id: str | None = None,
    ) -> Completion | None:
        """Values that begin with what was typed: ids newest first, usable models first.

        Args:
            reference: The prompt or the template.
            argument: Which argument of it.
            typed: What was typed so far.
            run_id: The run that was chosen before, whose workflows alone are then suggested.

        Returns:
            None where the prompt or the template is not ours.
        """
        if not _is_ours(reference):
            return None
        try:
            service = await self._backend.runs()
            match argument:
                case "run_id":
                    return _ids(await service.workplace.store.run_ids(typed, _MOST))
                case "workflow_id":
                    return _ids(await _workflows(service, typed, run_id))
                case "executor":
                    return _names(_executors(service.workplace.models), typed)
                case "optimizer":
                    models = _executors(service.workplace.models)
                    return _names(["client", "grammar", *models], typed)
                case _:
                    return _names([], typed)
        except ServerError:
            return _names([], typed)


def _is_ours(reference: PromptReference | ResourceTemplateReference) -> bool:
    if isinstance(reference, PromptReference):
        return reference.name in (OPTIMISE, EXPLAIN, IMPROVE)
    return is_ours(reference.uri)


async def _workflows(service: "RunService", typed: str, run_id: str | None) -> "FoundIds":
    return await service.workplace.store.workflow_ids(typed, _MOST, run_id or None)


def _executors(models: "ModelRegistry") -> list[str]:
    """Specs, usable ones first; an endpoint that says no model's name stands as `NAME:`."""
    infos = sorted(models.available(), key=lambda info: not info.ready)
    return [info.spec.removesuffix("MODEL") for info in infos]


def _names(known: Sequence[str], typed: str) -> Completion:
    found = [name for name in known if name.startswith(typed)]
    return Completion(values=found[:_MOST], total=len(found), has_more=len(found) > _MOST)


def _ids(found: "FoundIds") -> Completion:
    return Completion(values=found.ids, total=found.total, has_more=found.total > len(found.ids))
