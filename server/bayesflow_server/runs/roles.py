"""Which model does what in a run: optimizer, refiner, executor, judge, and the tiers.

Each is set apart. What is left out follows from what is given: the refiner is the optimizer; the
optimizer is the grammar where the request brings one, else Sonnet where there is an Anthropic key,
else the agent that asked (`client`).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.judging import needs_judge
from bayesflow_server.evaluation.scorers import Scorer
from bayesflow_server.evaluation.task import Preset
from bayesflow_server.runs.options import SamplerOptions, Tier

if TYPE_CHECKING:
    from bayesflow_server.models.registry import ModelRegistry

__all__ = [
    "CLIENT",
    "GRAMMAR",
    "Roles",
    "default_optimizer",
    "preset_of",
    "resolve_roles",
]

GRAMMAR: Final = "grammar"
CLIENT: Final = "client"
_DEFAULT_WRITER: Final = "anthropic:claude-sonnet-5-5"


class Roles(NamedTuple):
    """The models of a run, each by its spec.

    Attributes:
        executor: Workflows call it.
        optimizer: Writes workflows: a model, `grammar` or `client`.
        refiner: Edits them: likewise.
        judge: Grades answers, or None where the scorer needs nobody.
        tiers: What a workflow may call by name.
    """

    executor: str
    optimizer: str
    refiner: str
    judge: str | None
    tiers: Mapping[Tier, str]

    @property
    def models(self) -> tuple[str, ...]:
        """The specs of real models, each once; the executor first."""
        return tuple(dict.fromkeys(self._called()))

    def _called(self) -> Iterator[str]:
        yield self.executor
        yield from (spec for spec in (self.optimizer, self.refiner) if _is_model(spec))
        if self.judge is not None:
            yield self.judge
        yield from self.tiers.values()


def default_optimizer(models: "ModelRegistry", *, grammar: bool, agent: bool) -> str:
    """What writes the workflows where the request does not say.

    Args:
        models: Knows which keys there are.
        grammar: The request brings a grammar.
        agent: Somebody is there who can answer proposals.
    """
    if grammar:
        return GRAMMAR
    if models.has_key("anthropic"):
        return _DEFAULT_WRITER
    return CLIENT if agent else GRAMMAR


def resolve_roles(
    executor: str,
    optimizer: str,
    options: SamplerOptions | None,
    scorer: Scorer,
    models: "ModelRegistry",
) -> Roles:
    """The models in force, each of them usable now.

    Raises:
        InputError: Two roles contradict each other.
        ModelUnavailableError: A model cannot be used here.
    """
    given = options or SamplerOptions()
    roles = Roles(
        executor=executor,
        optimizer=optimizer,
        refiner=given.refiner or optimizer,
        judge=given.judge,
        tiers=given.tiers or {},
    )
    if roles.refiner == GRAMMAR and optimizer != GRAMMAR:
        raise InputError(
            f"The refiner 'grammar' edits only what a grammar wrote, and {optimizer!r} writes the "
            "workflows; leave `options.refiner` out or name a model."
        )
    if needs_judge(scorer) != (roles.judge is not None):
        raise InputError(
            "The judge scorer needs a model to grade with; name it in `options.judge`."
            if roles.judge is None
            else "`options.judge` is set, but the scorer asks no judge; set `scorer` to "
            "{kind: 'judge', rubric: …} or leave `options.judge` out."
        )
    for spec in roles.models:
        models.require(spec)
    return roles


def preset_of(optimizer: str, preset: Preset | None) -> Preset:
    """The preset in force: the one given, else the one that fits the optimizer."""
    if preset is not None:
        return preset
    return "client" if optimizer == CLIENT else "balanced"


def _is_model(spec: str) -> bool:
    return spec not in (GRAMMAR, CLIENT)
