"""Finds the code in a model's answer: fenced blocks, or lines of plain text that look like code.

A fence ends where Markdown says, except that a line of backticks inside a triple-quoted string ends
nothing: workflows quote Markdown in their prompts. One pass over the lines; nothing is parsed here.
Called by `answer`.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = [
    "Block",
    "after_thought",
    "code_blocks",
    "looks_like_code",
    "plain_blocks",
    "string_state",
]

_CLOSING: Final = re.compile(r"^[\s>]*(?P<mark>`{3,}|~{3,})\s*$")
_PYTHON: Final = frozenset(("", "python", "python3", "py", "py3", "python2", "ipython", "code"))
_WRAPPERS: Final = frozenset(("markdown", "md"))
_THOUGHT: Final = re.compile(r"</?(?:think|thinking|thought|reasoning|scratchpad)>")
_THOUGHT_END: Final = re.compile(r"</(?:think|thinking|thought|reasoning|scratchpad)>")
_STRING: Final = re.compile(
    r"#.*|(?P<triple>'''|\"\"\")|'(?:\\.|[^'\\\n])*'?|\"(?:\\.|[^\"\\\n])*\"?"
)
_CODE: Final = re.compile(
    r"""^\s*(?:
        \#+\s*(?:[=_~-]{2,}|\*\*|[\[(])?\s*(?i:step)\s*\#?\d
      | (?:async\s+def|def|class)\s+\w+\s*[(:]
      | import\s+\w+(?:\.\w+)*(?:\s+as\s+\w+)?\s*(?:[,;\#]|$)
      | from\s+[\w.]+\s+import\s+[\w(*]
      | @\w+
      | return\b(?:\s*$|\s+[\w.(\[{"'-]+\s*(?:$|[,.(\[+%*/-]))
      | await\s+[\w.]+\(
      | (?:async\s+)?(?:for|while|if|with)\s.*:\s*(?:\#.*)?$
      | (?:try|else|finally)\s*:\s*$
      | [A-Za-z_][\w.\[\]'"]*(?:\s*,\s*[A-Za-z_][\w.\[\]]*)*\s*(?::\s*[\w.]+(?:\[[^=]*\])?)?\s*
        (?:[-+*/%|&]|//|\*\*)?=(?!=)
      | [A-Za-z_][\w.]*\(.*\)\s*$
    )""",
    re.VERBOSE,
)
_LONGEST_LINE: Final = 300  # for a pattern; no workflow's beginning needs more
_LONGEST_STRING: Final = 1_000  # lines of a string, behind a line of backticks in it
_PATIENCE: Final = 8  # strings without an end that are looked for


class Block(NamedTuple):
    """A stretch of an answer that may be code.

    Attributes:
        text: Its lines.
        python: It is said to be Python, or nothing is said.
        closed: The fence has an end, so that no prose can stand behind the code.
    """

    text: str
    python: bool
    closed: bool = True


def code_blocks(lines: Sequence[str]) -> list[Block]:
    """The fenced blocks of an answer, in order; a fence that is never closed reaches to the end.

    Args:
        lines: The answer's lines, each with its newline.
    """
    blocks: list[Block] = []
    position = misled = 0
    while position < len(lines):
        opening = _opening(lines[position])
        position += 1
        if opening is None or opening.language in _WRAPPERS:
            continue
        close = _closing(lines, position, opening.mark, heed_strings=misled < _PATIENCE)
        misled += close.misled
        body = [_unquoted(line, opening.quoted) for line in lines[position : close.line]]
        text = opening.code + "".join(body)
        closed = close.line < len(lines)
        if not closed:
            text = text.split("```\n")[0]  # `return answer, cost```` closes as well
        blocks.append(Block(text, opening.language in _PYTHON, closed))
        position = close.line + 1
    return [block for block in blocks if block.text.strip()]


def plain_blocks(lines: Sequence[str], limit: int = 4) -> list[str]:
    """Where unfenced code may begin: the text from each of the first lines that look like code.

    Args:
        lines: The answer's lines, each with its newline.
        limit: How many beginnings to give at most. A line below another that looks like code is
            no beginning of its own, unless prose stands between them.
    """
    starts: list[int] = []
    previous = False
    for number, line in enumerate(lines):
        code = line != "\n" and looks_like_code(line)
        if code and not previous:
            starts.append(number)
            if len(starts) == limit:
                break
        previous = code or (previous and (not line.strip() or line[:1].isspace()))
    return ["".join(line for line in lines[start:] if not _CLOSING.match(line)) for start in starts]


def looks_like_code(line: str) -> bool:
    """Whether a line is more likely Python than prose."""
    return len(line) <= _LONGEST_LINE and _CODE.match(line) is not None


def after_thought(lines: Sequence[str]) -> Sequence[str]:
    """What stands behind the thought that an answer begins with, or all lines if there is none.

    The opening tag may be missing, for it may have been part of the prompt; then the closing one
    must begin its line. Tags in the code (`text.split("</think>")`) are left alone.
    """
    opened = False
    for number, line in enumerate(lines):
        tag = _THOUGHT.search(line) if "<" in line else None
        if tag is None:
            continue
        if not opened and not line.lstrip().startswith("</"):
            if "".join(lines[:number]).strip() or line[: tag.start()].strip():
                return lines
            opened = True
        end = _THOUGHT_END.search(line)
        if end is not None:
            return [line[end.end() :], *lines[number + 1 :]]
    return lines


class _Opening(NamedTuple):
    mark: str
    language: str
    code: str
    quoted: bool


class _Close(NamedTuple):
    line: int
    misled: bool = False


def _opening(line: str) -> _Opening | None:
    if "```" not in line and "~~~" not in line:
        return None
    line = line.strip()
    end = max(line.rfind("```"), line.rfind("~~~")) + 3
    if end < 3:
        return None
    sign = line[end - 1]
    before = line[:end].rstrip(sign)
    language, _, rest = line[end:].strip().partition(" ")
    language = language.strip("{}.").split(",")[0].lower()
    # "Use `x```" in prose opens nothing; "Here it is: ```python" does.
    prose = before.strip(" \t>*-+.)0123456789")
    if prose and (language not in _PYTHON or not (language or prose.endswith(":"))):
        return None
    code = rest + "\n" if rest.startswith("#") and looks_like_code(rest) else ""
    return _Opening(line[len(before) : end], language, code, before.startswith(">"))


def _closing(lines: Sequence[str], start: int, mark: str, *, heed_strings: bool) -> _Close:
    """The line that closes a fence; by Markdown alone if a string inside never ends."""
    plain: int | None = None
    inside = ""
    for number in range(start, len(lines)):
        match = _CLOSING.match(lines[number])
        if match is not None and match["mark"].startswith(mark):
            if not inside:
                return _Close(number)
            plain = number if plain is None else plain
        if plain is not None and (not heed_strings or number - plain > _LONGEST_STRING):
            break
        if heed_strings:
            inside = string_state(lines[number], inside)
    return _Close(len(lines)) if plain is None else _Close(plain, misled=True)


def string_state(line: str, inside: str) -> str:
    """Which triple quote, if any, is open at the end of the line."""
    position = 0
    while True:
        if inside:
            end = _closing_quote(line, inside, position)
            if end < 0:
                return inside
            position, inside = end, ""
        match = _STRING.search(line, position)
        while match is not None and not match["triple"]:
            match = _STRING.search(line, match.end())
        if match is None:
            return ""
        position, inside = match.end(), match["triple"]


def _closing_quote(line: str, quote: str, position: int) -> int:
    """Where the text behind the closing quote begins, or -1; an escaped quote closes nothing."""
    end = line.find(quote, position)
    while end > 0 and line[end - 1] == "\\":
        end = line.find(quote, end + 1)
    return end + len(quote) if end >= 0 else -1


def _unquoted(line: str, quoted: bool) -> str:
    """A line without the `> ` of a Markdown quotation."""
    bare = line.lstrip()
    return bare[1:].removeprefix(" ") if quoted and bare.startswith(">") else line
