"""From the command line and a task file, or a data file alone, to a request.

`run` and `check` take either. What a flag says goes before what a task file says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import JsonValue, ValidationError

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task import Preset, Task
from bayesflow_server.evaluation.task_file import (
    TaskFile,
    load_task_file,
    task_of,
    with_absolute_paths,
)
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.check import NO_INSTRUCTIONS, TaskDraft
from bayesflow_server.runs.options import parse_options
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.terminal.option_flags import parse_option_flags

__all__ = ["AskedTask", "RunArguments", "asked_task", "budget_of", "draft_of", "request_of"]

_DATA: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


@dataclass(frozen=True)
class RunArguments:
    """What the command line says; None leaves the file's value.

    Attributes:
        task: A task.toml, or a data file.
        seed: Seed of every random draw.
        executor: Model that the workflows call.
        optimizer: What writes the workflows.
        options: Sampler options, each NAME=VALUE.
        budget: Limits by name.
        instructions: What a workflow is to do.
        scorer: A scorer's kind, or its JSON.
        fields: Each OURS=THEIRS.
        preset: Named settings.
    """

    task: Path
    seed: int | None = None
    executor: str | None = None
    optimizer: str | None = None
    options: tuple[str, ...] = ()
    budget: Mapping[str, float | None] | None = None
    instructions: str | None = None
    scorer: str | None = None
    fields: tuple[str, ...] = ()
    preset: Preset | None = None


class AskedTask(NamedTuple):
    """A task and how it is to be run.

    Attributes:
        settings: As a task file would say it, flags included; its paths are absolute.
        task: The checked task.
        grammar: A grammar's text, or None.
    """

    settings: TaskFile
    task: Task
    grammar: str | None


def asked_task(arguments: RunArguments) -> AskedTask:
    """The task that the file and the flags describe.

    Raises:
        InputError: One sentence that says what is wrong, where, and what to do.
    """
    changes = _changes(arguments)
    # Here a path is relative to where the command was given, in a task file to the file.
    options = with_absolute_paths(parse_option_flags(arguments.options), Path.cwd())
    if _is_data(arguments.task):
        settings = TaskFile(
            instructions=NO_INSTRUCTIONS,
            examples=str(arguments.task.expanduser().absolute()),
            options=options,
            seed=arguments.seed or 0,
        ).model_copy(update=changes)
        task = task_of(settings, parse_options(settings.options).splits)
        return AskedTask(settings, task, None)
    loaded = load_task_file(
        arguments.task,
        seed=arguments.seed,
        options=options,
        changes=changes,
    )
    settings, task = loaded.settings, loaded.task
    # The file's grammar, unless the command line names another optimizer.
    if loaded.grammar is not None and arguments.optimizer in (None, "grammar"):
        return AskedTask(settings, task, loaded.grammar.text)
    return AskedTask(settings.model_copy(update={"grammar": None}), task, None)


def request_of(arguments: RunArguments) -> RunRequest:
    """The request that a file and the flags make.

    Raises:
        InputError: One sentence that says what is wrong, where, and what to do.
    """
    asked = asked_task(arguments)
    settings = asked.settings
    if _is_data(arguments.task) and arguments.instructions is None:
        raise InputError(
            f"'{arguments.task}' is data; say what a workflow is to do: --instructions TEXT."
        )
    if settings.executor is None:
        raise InputError(
            f"'{arguments.task}' is data; name the model that the workflows call: --executor MODEL."
            if _is_data(arguments.task)
            else f"The task file '{arguments.task}' names no `executor`; add one or pass "
            "--executor."
        )
    draft = draft_of(arguments, asked, judge_agreement=False)
    return draft.request(settings.executor, settings.name)


def draft_of(arguments: RunArguments, asked: AskedTask, *, judge_agreement: bool) -> TaskDraft:
    """What `check` looks at.

    Raises:
        InputError: An option or a limit is wrong.
    """
    settings = asked.settings
    return TaskDraft(
        task=asked.task,
        executor=settings.executor,
        optimizer=settings.optimizer,
        preset=settings.preset,
        options=parse_options(settings.options),
        budget=budget_of(settings.budget or {}, arguments.budget or {}),
        seed=settings.seed,
        grammar=asked.grammar,
        agent=False,
        judge_agreement=judge_agreement,
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


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in _DATA


def _changes(arguments: RunArguments) -> dict[str, object]:
    """What flags say in place of a file."""
    given: dict[str, object] = {
        "instructions": arguments.instructions,
        "scorer": None if arguments.scorer is None else _scorer(arguments.scorer),
        "fields": _fields(arguments.fields) or None,
        "preset": arguments.preset,
        "executor": arguments.executor,
        "optimizer": arguments.optimizer,
    }
    return {name: value for name, value in given.items() if value is not None}


def _scorer(text: str) -> JsonValue:
    """A kind, or an object in JSON."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        scorer: JsonValue = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--scorer is neither a kind nor JSON ({error.msg} at character {error.pos + 1}): "
            'write e.g. numeric, or \'{"kind": "regex", "pattern": "[A-D]"}\'.'
        ) from None
    return scorer


def _fields(pairs: Sequence[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for pair in pairs:
        ours, separator, theirs = pair.partition("=")
        if not (separator and ours and theirs):
            raise InputError(f"--field {pair!r} is not OURS=THEIRS, such as target=answer.")
        fields[ours] = theirs
    return fields
