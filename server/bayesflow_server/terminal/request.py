"""From `bayesflow-mcp run`'s arguments and a task file to a request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task_file import LoadedTaskFile, load_task_file
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.options import parse_options
from bayesflow_server.runs.request import RunRequest

__all__ = ["RunArguments", "budget_of", "request_of"]


@dataclass(frozen=True)
class RunArguments:
    """What `bayesflow-mcp run` was given; None leaves the file's value."""

    task: Path
    seed: int | None
    executor: str | None
    optimizer: str | None
    options: tuple[str, ...]
    budget: Mapping[str, float | None]


def request_of(arguments: RunArguments) -> RunRequest:
    """The request that the task file and the arguments make.

    Raises:
        InputError: One sentence that says what is wrong, where, and what to do.
    """
    options = _options(arguments.options)
    loaded = load_task_file(arguments.task, seed=arguments.seed, options=options)
    settings = loaded.settings
    executor = arguments.executor or settings.executor
    if executor is None:
        raise InputError(
            f"The task file '{arguments.task}' names no `executor`; add one or pass --executor."
        )
    return RunRequest(
        task=loaded.task,
        executor=executor,
        optimizer=arguments.optimizer or settings.optimizer,
        preset=settings.preset,
        options=parse_options(settings.options),
        budget=budget_of(settings.budget or {}, arguments.budget),
        seed=settings.seed,
        name=settings.name,
        grammar=_grammar(loaded, arguments),
        agent=False,
    )


def budget_of(
    values: Mapping[str, JsonValue], flags: Mapping[str, float | None]
) -> BudgetLimits | None:
    """The budget of a file, changed by flags; None if neither says anything.

    Raises:
        InputError: A limit is unknown or out of range.
    """
    given = {**values, **{name: value for name, value in flags.items() if value is not None}}
    if not given:
        return None
    try:
        return BudgetLimits.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first["loc"][0]
        if first["type"] == "extra_forbidden":
            known = ", ".join(BudgetLimits.model_fields)
            raise InputError(f"`budget` has no '{name}'; it takes {known}.") from None
        wish = first["msg"].removeprefix("Input should be ")
        raise InputError(f"The budget's {name} must be {wish}, not {first['input']!r}.") from None


def _grammar(loaded: LoadedTaskFile, arguments: RunArguments) -> str | None:
    """The file's grammar, unless the command line names another optimizer."""
    if loaded.grammar is None or arguments.optimizer not in (None, "grammar"):
        return None
    return loaded.grammar.text


def _options(pairs: Sequence[str]) -> dict[str, JsonValue]:
    """Options from NAME=VALUE; a value is JSON where it can be, otherwise text."""
    values: dict[str, JsonValue] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"--option {pair!r} is not NAME=VALUE, such as particles=20.")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values
