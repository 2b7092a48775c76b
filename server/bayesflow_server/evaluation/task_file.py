"""`task.toml`: a task and its run on disk, under the names of `start_bayesflow_run`'s arguments.

Paths in it are relative to the file; a `baseline` that ends in `.py` is one, too, and so is what
does so among `options.warm_start`. Over MCP a
grammar and a baseline are text, never the name of a file. `terminal.request` is the caller.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task import Preset, Task, load_task

__all__ = [
    "GrammarFile",
    "LoadedTaskFile",
    "TaskFile",
    "load_task_file",
    "read_task_file",
    "task_of",
    "with_absolute_paths",
]

_LARGEST_TEXT = 1024 * 1024


class TaskFile(BaseModel):
    """What a task.toml may say; `options` and `budget` are checked by those who use them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: str
    examples: str | list[dict[str, JsonValue]]
    scorer: str | dict[str, JsonValue] = "auto"
    executor: str | None = None
    optimizer: str | None = None
    baseline: str | None = None
    fields: dict[str, str] | None = None
    answer_format: str | None = None
    public_tests: str | None = None
    preset: Preset | None = None
    budget: dict[str, JsonValue] | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    seed: int = 0
    name: str | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class GrammarFile:
    """A grammar's text and the absolute path it was read from."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class LoadedTaskFile:
    """A task file with everything it names.

    Attributes:
        settings: The file's content; its paths are absolute.
        task: The checked task.
        grammar: The grammar it names, or None.
    """

    settings: TaskFile
    task: Task
    grammar: GrammarFile | None


def load_task_file(
    path: Path,
    *,
    seed: int | None = None,
    options: Mapping[str, JsonValue] | None = None,
    changes: Mapping[str, object] | None = None,
) -> LoadedTaskFile:
    """Reads a task file, its rows and its grammar.

    Args:
        path: The task.toml.
        seed: Replaces the file's seed.
        options: Go before the file's options.
        changes: Stand in place of what the file says under these names.

    Raises:
        InputError: One sentence that says what is wrong, where, and what to do.
    """
    settings = read_task_file(path)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    if options:
        settings = settings.model_copy(update={"options": settings.options | dict(options)})
    if changes:
        settings = settings.model_copy(update=dict(changes))
    task = task_of(settings, _split_sizes(settings, path))
    grammar = None
    if settings.grammar is not None:
        grammar_path = Path(settings.grammar)
        grammar = GrammarFile(grammar_path, _read_text(grammar_path, "grammar"))
    return LoadedTaskFile(settings, task, grammar)


def task_of(settings: TaskFile, splits: Mapping[str, int | float] | None) -> Task:
    """The task that a file's content describes.

    Args:
        settings: The content; its paths are absolute.
        splits: Sizes, as its options give them.

    Raises:
        InputError: One sentence that says what is wrong, where, and what to do.
    """
    return load_task(
        instructions=settings.instructions,
        examples=settings.examples,
        scorer=settings.scorer,
        baseline=settings.baseline,
        fields=settings.fields,
        answer_format=settings.answer_format,
        public_tests=settings.public_tests,
        preset=settings.preset,
        splits=splits,
        seed=settings.seed,
    )


def read_task_file(path: Path) -> TaskFile:
    """Reads the file alone and makes the paths in it absolute.

    Raises:
        InputError: The file is missing, no TOML, or says something that a task cannot.
    """
    try:
        values = tomllib.loads(_read_text(path, "task"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The task file '{path}' is not TOML: {error}.") from None
    try:
        settings = TaskFile.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(path, error)) from None
    folder = path.resolve().parent
    updates: dict[str, object] = {"options": with_absolute_paths(settings.options, folder)}
    if isinstance(settings.examples, str):
        updates["examples"] = str(folder / settings.examples)
    if settings.grammar is not None:
        updates["grammar"] = str(folder / settings.grammar)
    if settings.baseline is not None and settings.baseline.strip().endswith(".py"):
        updates["baseline"] = _read_text(folder / settings.baseline.strip(), "baseline")
    return settings.model_copy(update=updates)


def with_absolute_paths(options: Mapping[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
    """The options; what ends in `.py` among `warm_start` is a path, relative to the folder."""
    values = dict(options)
    match values.get("warm_start"):
        case str(entry):
            values["warm_start"] = _absolute(entry, folder)
        case list(entries):
            values["warm_start"] = [
                _absolute(entry, folder) if isinstance(entry, str) else entry for entry in entries
            ]
        case _:
            pass
    return values


def _absolute(entry: str, folder: Path) -> str:
    is_path = entry.endswith(".py") and "\n" not in entry
    return str(folder / Path(entry).expanduser()) if is_path else entry


def _read_text(path: Path, what: str) -> str:
    try:
        if not path.is_file():
            problem = "is a directory" if path.is_dir() else "does not exist"
            raise InputError(f"The {what} file '{path}' {problem}: name a file that is there.")
        with path.open("rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise InputError(f"The {what} file '{path}' is larger than 1 MB: name a TOML file.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"The {what} file '{path}' is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"The {what} file '{path}' cannot be read ({error.strerror}): make it readable."
        ) from None


def _sentence(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = list(TaskFile.model_fields)
        hint = get_close_matches(key, known, n=1)
        advice = f"did you mean '{hint[0]}'?" if hint else f"known are {', '.join(known)}."
        return f"The task file '{path}' has the unknown key '{key}': {advice}"
    if first["type"] == "missing":
        return f"The task file '{path}' lacks the key '{key}': add it."
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"The key '{key}' in the task file '{path}' is wrong: {message}."


def _split_sizes(settings: TaskFile, path: Path) -> dict[str, int | float] | None:
    """`options.splits`, which the task needs before anything else reads the options."""
    sizes = settings.options.get("splits")
    if sizes is None:
        return None
    if isinstance(sizes, dict):
        numbers = {name: size for name, size in sizes.items() if isinstance(size, int | float)}
        if len(numbers) == len(sizes):
            return numbers
    raise InputError(
        f"`options.splits` in the task file '{path}' is no table of numbers: write e.g. "
        "splits = { validation = 40, selection = 30, test = 100 }."
    )
