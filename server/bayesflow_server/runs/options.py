"""The sampler's options as a client writes them, the presets, and how the two resolve."""

from dataclasses import asdict, fields
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.operators import Operator
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.resampling import Resampling
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task import Preset

__all__ = [
    "MOST_WARM",
    "PRESETS",
    "SamplerOptions",
    "Tier",
    "parse_options",
    "pools_rounds",
    "resolve_options",
]

Tier = Literal["strong", "cheap"]
MOST_WARM: Final = 20
_CLEAN_FLOOR: Final = 0.3
_LONGEST_SHOWN: Final = 100

PRESETS: Final[dict[Preset, SearchOptions]] = {
    "paper": SearchOptions(
        particles=10,
        refinements=10,
        rounds=5,
        inverse_temperature=1.0,
        weighting="paper",
        resampling="multinomial",
        minibatch=None,
        refinement="inject",
    ),
    "balanced": SearchOptions(
        particles=10, refinements=2, rounds=5, minibatch=20, clean_floor=_CLEAN_FLOOR
    ),
    "quick": SearchOptions(
        particles=5, refinements=1, rounds=3, minibatch=20, clean_floor=_CLEAN_FLOOR
    ),
    "client": SearchOptions(
        particles=4, refinements=2, rounds=3, minibatch=20, clean_floor=_CLEAN_FLOOR
    ),
}


def _listed(value: object) -> object:
    """One name is a list of one."""
    return [value] if isinstance(value, str) else value


class SamplerOptions(BaseModel):
    """What may be changed of a preset. An option that is absent keeps the preset's value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    particles: int | None = Field(
        default=None, ge=1, le=1000, description="N: prefixes kept in parallel."
    )
    rollouts: int | None = Field(
        default=None, ge=1, le=32, description="K: look-ahead completions scored for each prefix."
    )
    refinements: int | None = Field(
        default=None, ge=0, le=100, description="M: edits of complete workflows in each round."
    )
    rounds: int | None = Field(
        default=None, ge=1, le=20, description="T: the most steps grown one by one."
    )
    lookahead: bool | None = Field(
        default=None, description="false: refinement alone, without growing steps; no posterior."
    )
    beta: float | Literal["auto"] | None = Field(
        default=None, description="Inverse temperature above 0, or 'auto': fitted to the rewards."
    )
    weighting: Literal["exact", "paper"] | None = Field(
        default=None, description="exact targets the posterior; paper is Algorithm 1 as printed."
    )
    resampling: Resampling | None = Field(default=None, description="How ancestors are drawn.")
    ess_threshold: float | None = Field(
        default=None, gt=0, le=1, description="Select only while ESS/N is below this."
    )
    tempering: float | None = Field(
        default=None, gt=0, le=1, description="Scale scores so that ESS/N stays at least this."
    )
    islands: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Independent populations; 2 or more give the evidence a standard error.",
    )
    minibatch: int | Literal["full"] | None = Field(
        default=None, description="Validation rows that score a round before the last, or 'full'."
    )
    refinement: Literal["inject", "archive"] | None = Field(
        default=None,
        description="inject: refined workflows join the particles; archive: the final pick only.",
    )
    refiner_lag: Literal[0, 1] | None = Field(
        default=None, description="1: propose the next edit while the last is scored."
    )
    recycle: bool | None = Field(
        default=None, description="Rollouts become next steps (grammar, rollouts 2 or more)."
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Stop once another round should improve the best by less, or the budget "
        "cannot pay it.",
    )
    warm_start: Annotated[list[str] | None, BeforeValidator(_listed)] = Field(
        default=None,
        max_length=MOST_WARM,
        description="Run ids (their 5 best), workflow ids, sources or absolute .py paths that "
        "join round 1 as refined candidates.",
    )
    splits: dict[str, int | float] | None = Field(
        default=None, description="Rows (or shares) of validation, selection and test."
    )
    operator: Operator | None = Field(
        default=None,
        description="What the refiner edits: one of the best (the paper), linear: the latest, "
        "evolutionary: a cross of two, tree: by UCT.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Of the optimizer; absent: the model's own."
    )
    refiner: str | None = Field(
        default=None, description="Model that edits workflows; absent: the optimizer."
    )
    judge: str | None = Field(default=None, description="Model of the judge scorer.")
    tiers: dict[Tier, str] | None = Field(
        default=None,
        description="Further models a workflow may call by name: {strong: SPEC, cheap: SPEC}.",
    )
    cost_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Reward = score - cost_weight * min(cost per example / cost_cap, 1).",
    )
    cost_cap: float | None = Field(
        default=None, gt=0, description="USD per example; absent: ten zero-shot calls."
    )


_SEARCH: Final = frozenset(field.name for field in fields(SearchOptions)) - {"minibatch"}


def pools_rounds(options: SearchOptions) -> bool:
    """Whether all rounds estimate the same law with draws of their own.

    Paper weighting has another law each round; without look-ahead every round has the same draws.
    """
    return options.weighting == "exact" and options.lookahead


def parse_options(values: dict[str, JsonValue]) -> SamplerOptions:
    """Checks options that come from a file or the command line.

    Raises:
        InputError: One sentence naming the option and what it takes.
    """
    try:
        return SamplerOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        known = ", ".join(SamplerOptions.model_fields)
        if first["type"] == "extra_forbidden":
            raise InputError(f"`options` has no {name!r}; it takes {known}.") from None
        raise InputError(
            f"`options.{name}` is wrong: {first['msg'].lower()} (got {_shown(first['input'])})."
        ) from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def resolve_options(preset: Preset, options: SamplerOptions | None) -> SearchOptions:
    """The preset with the client's changes.

    Raises:
        InputError: An option is out of range, or two contradict each other.
    """
    values = asdict(PRESETS[preset])
    if options is not None:
        values |= options.model_dump(exclude_none=True, include=set(_SEARCH))
        if options.beta is not None:
            values["inverse_temperature"] = None if options.beta == "auto" else options.beta
        if options.minibatch is not None:
            values["minibatch"] = None if options.minibatch == "full" else options.minibatch
    try:
        return SearchOptions(**values)
    except OptionsError as error:
        raise InputError(f"{error} Change it under `options`.") from None
