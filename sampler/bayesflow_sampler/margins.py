"""Sets right the margin of code in a model's answer, so that Python reads it.

The answer may be indented as a whole, or all but its first line; by tabs, or by spaces that are no
spaces; its imports may stand at the margin and its statements as in the method. Strings keep every
character. Called by `passage`.
"""

import re
from collections.abc import Iterator, Sequence
from keyword import iskeyword
from typing import Final

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.fences import looks_like_code, string_state
from bayesflow_sampler.source import indent_code, parse_python, source_lines

__all__ = ["readable"]

_CUTS: Final = 5
_ODD_SPACE: Final = re.compile(r"^[ \t\u00a0\u2000-\u200b\u3000\ufeff]+")


def readable(code: str, *, prose: bool) -> str:
    """The code with a margin that Python accepts, without the prose behind it.

    Args:
        code: Python text whose margin is anyone's.
        prose: Prose may stand behind it. What looks like broken code is never cut off.

    Raises:
        SourceError: It is not Python under any margin.
    """
    failure: SourceError | None = None
    for _ in range(_CUTS):
        cut: int | None = None
        for text in _margins(code):
            try:
                parse_python(text)
            except SourceError as error:
                if failure is None or (error.line or 0) > (failure.line or 0):
                    failure = error
                cut = max(cut or 0, error.line or 0)
            else:
                return text
        shorter = _without_prose(code, cut or 0) if prose else None
        if shorter is None:
            break
        code = shorter.rstrip()
    raise failure or SourceError("The code is not valid Python.")


def _without_prose(code: str, line: int) -> str | None:
    """The code in front of `line`, if prose follows there; None if it looks like broken code."""
    lines = source_lines(code)
    head = [text for text in lines[: max(line - 1, 0)] if text.strip()]
    tail = [text for text in lines[line - 1 :] if text.strip()]
    if not head or not tail or any(map(looks_like_code, tail)):
        return None
    word = tail[0].split()[0]
    if tail[0][:1].isspace() and _width(tail[0]) >= _width(head[0]):
        return None
    return None if iskeyword(word.rstrip(":")) and word.islower() else "".join(lines[: line - 1])


def _width(line: str) -> int:
    return len(line) - len(line.lstrip())


def _margins(code: str) -> Iterator[str]:
    """The code under every margin that a model may have meant."""
    lines = source_lines(code + "\n")
    for width in (4, 8) if "\t" in code else (4,):
        spaced = _spaced(lines, width)
        text = "".join(spaced)
        yield text
        for change in (_dedented, _first_line_moved, _halves):
            try:
                moved = change(spaced)
            except SourceError:
                continue
            if moved is not None and moved != text:
                yield moved


def _spaced(lines: Sequence[str], width: int) -> list[str]:
    """Lines indented by plain spaces, but for those that begin inside a string."""
    inside, result = "", list[str]()
    for line in lines:
        margin = _ODD_SPACE.match(line)
        if margin is not None and not inside:
            blank = "".join(char if char in " \t" else " " for char in margin[0])
            line = blank.expandtabs(width) + line[margin.end() :]
        result.append(line)
        inside = string_state(line, inside)
    return result


def _dedented(lines: Sequence[str]) -> str:
    try:
        return indent_code("".join(lines), 0)
    except SourceError:
        # Prose behind the code: where it begins, the parser will say.
        first = next((line for line in lines if line.lstrip()[:1] not in ("", "#")), "")
        margin = first[: len(first) - len(first.lstrip())]
        return "".join(_without_margin(lines, margin))


def _without_margin(lines: Sequence[str], margin: str) -> Iterator[str]:
    inside = ""
    for line in lines:
        yield line if inside else line.removeprefix(margin)
        inside = string_state(line, inside)


def _first_line_moved(lines: Sequence[str]) -> str | None:
    """The first line lost its margin: the prompt ended with it, or the fence ate it."""
    rest = [len(line) - len(line.lstrip()) for line in _outside(lines[1:]) if line.strip()]
    if not rest or not min(rest) or lines[0][:1].isspace():
        return None
    return indent_code(" " * min(rest) + "".join(lines), 0)


def _halves(lines: Sequence[str]) -> str | None:
    """Module-level code at margin 0, then the statements of a body at theirs."""
    try:
        parse_python("".join(lines))
    except SourceError as error:
        cut = (error.line or 1) - 1
        if cut and "unexpected indent" in str(error):
            return "".join(lines[:cut]) + indent_code("".join(lines[cut:]), 0)
    return None


def _outside(lines: Sequence[str]) -> Iterator[str]:
    """The lines that do not begin inside a string."""
    inside = ""
    for line in lines:
        if not inside:
            yield line
        inside = string_state(line, inside)
