"""The closed set of scorers, told apart by `kind`; a bare string is its kind."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, TypeAlias

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.scorers.choice import Choice
from bayesflow_server.evaluation.scorers.drop import DropF1
from bayesflow_server.evaluation.scorers.exact import Exact
from bayesflow_server.evaluation.scorers.json_fields import JsonFields
from bayesflow_server.evaluation.scorers.judge import Judge
from bayesflow_server.evaluation.scorers.label import Label
from bayesflow_server.evaluation.scorers.math import Math
from bayesflow_server.evaluation.scorers.numeric import Numeric
from bayesflow_server.evaluation.scorers.own import File, Python
from bayesflow_server.evaluation.scorers.pass_at_1 import PassAt1
from bayesflow_server.evaluation.scorers.pattern import Regex
from bayesflow_server.evaluation.scorers.text import ScorerModel
from bayesflow_server.evaluation.scorers.token_f1 import TokenF1
from bayesflow_server.excerpt import quoted

__all__ = ["SCORERS", "SCORER_KINDS", "ComputedScorer", "Scorer", "parse_scorer"]

# Those that score at once, from answer and target alone.
ComputedScorer: TypeAlias = Exact | Label | JsonFields | Numeric | TokenF1 | DropF1 | Choice | Regex
Scorer: TypeAlias = Annotated[
    ComputedScorer | Math | PassAt1 | Judge | Python | File, Field(discriminator="kind")
]

SCORERS: tuple[type[ScorerModel], ...] = (
    Exact,
    Label,
    JsonFields,
    Numeric,
    Math,
    TokenF1,
    DropF1,
    Choice,
    PassAt1,
    Regex,
    Judge,
    Python,
    File,
)
SCORER_KINDS: tuple[str, ...] = tuple(model.model_fields["kind"].default for model in SCORERS)

_ADAPTER: TypeAdapter[Scorer] = TypeAdapter(Scorer)


def parse_scorer(spec: Scorer | str | Mapping[str, JsonValue]) -> Scorer:
    """Makes a scorer of a kind's name or of its parameters.

    Raises:
        InputError: The kind is unknown, or a parameter is missing, unknown or out of range.
    """
    if not isinstance(spec, str | Mapping):
        return spec
    raw = {"kind": spec} if isinstance(spec, str) else spec
    kind = raw.get("kind")
    if kind is None:
        raise InputError(
            'The scorer\'s object names no kind: pass e.g. {"kind": "numeric", "tolerance": 0.01}.'
        )
    if kind not in SCORER_KINDS:
        hint = get_close_matches(str(kind), SCORER_KINDS, n=1)
        raise InputError(
            f"There is no scorer {quoted(kind)}"
            + (f" (did you mean {quoted(hint[0])}?)" if hint else "")
            + f": use auto, {', '.join(SCORER_KINDS)}."
        )
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise InputError(_sentence(str(kind), error)) from None


def _sentence(kind: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    parameter = ".".join(str(part) for part in first["loc"][1:])
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        example = f'{{"kind": "{kind}", "{parameter}": …}}'
        return f"The scorer {quoted(kind)} needs {quoted(parameter)}: pass {example}."
    if first["type"] == "extra_forbidden":
        return f"The scorer {quoted(kind)} has no parameter {quoted(parameter)}: leave it out."
    return f"The parameter {quoted(parameter)} of the scorer {quoted(kind)} is wrong: {reason}."
