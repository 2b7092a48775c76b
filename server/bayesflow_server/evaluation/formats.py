"""Reads a dataset file (JSONL, JSON or CSV) into plain objects, one a row.

Only this module touches the file system for data. Byte order marks, CRLF, blank lines and a missing
last newline are tolerated; everything else that is wrong becomes one `InputError` sentence.
`dataset.py` gives the objects their meaning.
"""

import csv
import io
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, cast

from pydantic import JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.excerpt import PATH, quoted

__all__ = ["MAX_BYTES", "Table", "read_table"]

MAX_BYTES = 64 * 1024 * 1024

_SHAPES = "one JSON object a line (.jsonl), a JSON list of objects (.json), or CSV with a header"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they were written.

    Attributes:
        rows: One object a row, under the author's field names.
        numbers: The number of each row in messages: a line of the file, or its place from 1.
        noun: What the numbers count.
        source: What to call the whole in a message.
    """

    rows: Sequence[Mapping[str, JsonValue]]
    numbers: Sequence[int]
    noun: Literal["line", "row"]
    source: str

    def place(self, index: int) -> str:
        """Names a row in a message, e.g. ``line 7 of '/data/faq.jsonl'``."""
        return f"{self.noun} {self.numbers[index]} of {self.source}"


def read_table(path: str) -> Table:
    """Reads the file at an absolute path.

    Raises:
        InputError: The path is relative or no readable file, or its content is not a table.
    """
    source = quoted(path, PATH)
    text = _decode(_read_bytes(path, source), source)
    if not text.strip():
        raise InputError(f"The dataset {source} is empty: put at least two rows into it.")
    suffix = Path(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        table = _read_csv(text, source, "\t" if suffix == ".tsv" else None)
    elif text.lstrip()[0] == "[" or (suffix == ".json" and not _looks_like_lines(text)):
        table = _read_json(text, source)
    elif suffix in (".jsonl", ".ndjson", ".json") or text.lstrip()[0] == "{":
        table = _read_jsonl(text, source)
    else:
        raise InputError(f"The dataset {source} has no known format: write {_SHAPES}.")
    if not table.rows:
        raise InputError(f"The dataset {source} holds no rows: put at least two into it.")
    return table


def _read_bytes(path: str, source: str) -> bytes:
    """Reads a regular file of bounded size; never blocks on a pipe or a device."""
    if not Path(path).is_absolute():
        raise InputError(
            f"The dataset path {source} is not absolute: give the full path, because hosts start "
            "servers in arbitrary folders and the server cannot see files attached to a chat, or "
            "pass the rows inline as a list."
        )
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"The dataset path {source} is a directory: name a file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"The dataset path {source} is not a regular file: name one.")
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(
            f"There is no dataset file at {source}: check the path, or pass the rows inline as a "
            "list (the server cannot see files attached to a chat)."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"The dataset {source} cannot be read ({reason}): make it readable for the user that "
            "runs this server."
        ) from None
    if len(content) > MAX_BYTES:
        raise InputError(
            f"The dataset {source} is larger than {MAX_BYTES // 1024**2} MB: pass a sample of it "
            "(a run uses at most about 900 rows unless told otherwise)."
        )
    return content


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"The dataset {source} is not UTF-8 text (line {line} holds the byte "
            f"0x{content[error.start]:02x}): save it as UTF-8."
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(text: str) -> JsonValue:
    """Parses strict JSON.

    Raises:
        ValueError: With a reason that fits into brackets.
    """
    try:
        value, end = _DECODER.raw_decode(text)
        return cast(JsonValue, value if end == len(text) else _DECODER.decode(text))
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise ValueError(f"{error.msg} at {at}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error):  # Python's own words tell a programmer what to set
            raise ValueError("it holds a number of thousands of digits; make it a text") from None
        raise


def _looks_like_lines(text: str) -> bool:
    """Whether the first line is a JSON object of its own and more follows."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(_parse(first), dict)
    except ValueError:
        return False


def _read_jsonl(text: str, source: str) -> Table:
    rows: list[Mapping[str, JsonValue]] = []
    numbers: list[int] = []
    # Not splitlines(): JSON strings may hold U+2028 and its kin as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not (line := line.strip()):
            continue
        try:
            value = _parse(line)
        except ValueError as error:
            raise InputError(
                f"Line {number} of {source} is not JSON ({error}): write one JSON object a line."
            ) from None
        rows.append(
            value if isinstance(value, dict) else _object(value, f"Line {number} of {source}")
        )
        numbers.append(number)
    return Table(rows=rows, numbers=numbers, noun="line", source=source)


def _read_json(text: str, source: str) -> Table:
    try:
        value = _parse(text)
    except ValueError as error:
        raise InputError(f"The dataset {source} is not JSON ({error}): write {_SHAPES}.") from None
    if isinstance(value, dict):
        value = value.get("examples")
    if not isinstance(value, list):
        raise InputError(
            f"The dataset {source} is neither a JSON list of objects nor an object with such a "
            'list under "examples": write it as one of the two.'
        )
    rows = [_object(row, f"Row {n} of {source}") for n, row in enumerate(value, start=1)]
    return Table(rows=rows, numbers=range(1, len(rows) + 1), noun="row", source=source)


def _object(value: JsonValue, place: str) -> Mapping[str, JsonValue]:
    if not isinstance(value, dict):
        raise InputError(
            f"{place} is {_kind(value)}, not an object: write it as "
            '{"input": "…", "target": "…"}.'
        )
    return value


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list"
    return "a number" if not isinstance(value, bool) else "true or false"


def _read_csv(text: str, source: str, delimiter: str | None) -> Table:
    if delimiter is None:
        header = text.lstrip().partition("\n")[0]
        delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Mapping[str, JsonValue]] = []
    numbers: list[int] = []
    try:
        records = (record for record in reader if record)
        names = _header(next(records), source)
        for number, record in enumerate(records, start=1):
            if len(record) != len(names):
                raise InputError(
                    f"Row {number} of {source} (line {reader.line_num}) has {len(record)} cells "
                    f"where the header has {len(names)}: put cells that hold "
                    f"'{delimiter}' or line breaks into double quotes."
                )
            rows.append(dict(zip(names, record, strict=True)))
            numbers.append(number)
    except csv.Error as error:
        raise InputError(
            f"The dataset {source} is not CSV (line {reader.line_num}: {error}): quote its cells "
            "with double quotes, or write JSONL."
        ) from None
    return Table(rows=rows, numbers=numbers, noun="row", source=source)


def _header(record: list[str], source: str) -> list[str]:
    names = [name.strip() for name in record]
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"The header of {source} has an empty or repeated column name ({', '.join(names)}): "
            "give each column a name of its own."
        )
    return names
