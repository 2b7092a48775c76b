"""A task as a task.toml: what `bayesflow-mcp check --write` leaves for `run`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task_file import TaskFile

__all__ = ["require_free", "write_task_file"]


def require_free(path: Path) -> None:
    """Makes sure, before any work is done for it, that nothing is there yet.

    Raises:
        InputError: There is something.
    """
    if path.expanduser().exists():
        raise _taken(path)


def write_task_file(settings: TaskFile, path: Path) -> None:
    """Writes the settings where nothing is yet; a path in them becomes relative if it can.

    Raises:
        InputError: There is something, or the place cannot be written.
    """
    values: dict[str, JsonValue] = settings.model_dump(mode="json", exclude_defaults=True)
    folder = path.expanduser().absolute().parent
    for name in ("examples", "grammar"):
        if isinstance(place := values.get(name), str):
            values[name] = _within(folder, place)
    options = values.get("options")
    if isinstance(options, dict) and "warm_start" in options:
        values["options"] = {**options, "warm_start": _names_within(folder, options["warm_start"])}
    try:
        with path.expanduser().open("x", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in _lines(values)))
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}).") from None


def _taken(path: Path) -> InputError:
    return InputError(f"'{path}' is there already: name a file that is not.")


def _within(folder: Path, place: str) -> str:
    try:
        return Path(place).relative_to(folder).as_posix()
    except ValueError:
        return place


def _names_within(folder: Path, names: JsonValue) -> JsonValue:
    if isinstance(names, list):
        return [_names_within(folder, name) for name in names]
    return _within(folder, names) if isinstance(names, str) else names


def _lines(values: Mapping[str, JsonValue]) -> Iterator[str]:
    """Plain keys first: what follows a table's head belongs to that table."""
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    for name, value in values.items():
        if name not in tables:
            yield f"{_key(name)} = {_inline(value)}"
    for name, table in tables.items():
        yield ""
        yield f"[{_key(name)}]"
        for key, value in table.items():
            if value is not None:
                yield f"{_key(key)} = {_inline(value)}"


def _inline(value: JsonValue) -> str:
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_inline(one)}" for key, one in value.items() if one is not None)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    # TOML's basic strings, numbers and booleans are those of JSON, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else _inline(name)
