'''Reads a step grammar from TOML.

    title = "…"
    start = "ask"                          # the first step's state
    [helpers]                              # module-level code, by name
    evaluate = """def evaluate(text): …"""
    [[production]]
    state = "ask"                          # the state this production belongs to
    title = "Ask with <<k>> examples"      # the step's `# Step n:` title
    weight = 2.0                           # relative within the state (default 1)
    each = { k = [2, 4] }                  # one production a combination, sharing the weight
    uses = ["evaluate"]                    # helpers the step brings along
    next = "read"                          # absent: the workflow ends, and `code` returns
    code = """shots = DEMONSTRATIONS[:<<k>>]"""

`<<name>>` is replaced by a value of `each` or by a slot the caller fills (as a Python literal),
such as the task's instructions.
'''

import ast
import itertools
import math
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Final, NamedTuple, cast

from bayesflow_sampler.errors import GrammarError, SourceError
from bayesflow_sampler.grammar import Grammar, Production
from bayesflow_sampler.source import indent_code
from bayesflow_sampler.types import Step

__all__ = ["general_grammar", "load_grammar"]

INDENT: Final = 8
_SLOT: Final = re.compile(r"<<(\w+)>>")
_TOP_KEYS: Final = {"title", "start", "helpers", "production"}
_PRODUCTION_KEYS: Final = {"state", "title", "weight", "each", "uses", "next", "code"}


class _Entry(NamedTuple):
    """A production before its state's weights are normalised."""

    state: str
    step: Step
    weight: float
    next: str | None


def general_grammar(slots: Mapping[str, object]) -> Grammar:
    """The built-in grammar for any task: instructions, examples, reasoning, votes, checks.

    Args:
        slots: `instructions` (str), `answer_format` (str) and `demonstrations` (list of
            [input, answer] pairs).
    """
    text = resources.files("bayesflow_sampler").joinpath("grammars/general.toml").read_text("utf-8")
    return load_grammar(text, slots)


def load_grammar(text: str, slots: Mapping[str, object] | None = None) -> Grammar:
    """Reads and checks a grammar.

    Args:
        text: TOML, as the module's docstring describes.
        slots: Values for `<<name>>`, written into the code as Python literals.

    Raises:
        GrammarError: It is not such a grammar; the message names the production and the remedy.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GrammarError(f"The grammar is not valid TOML: {error}.") from None
    _refuse_unknown(data, _TOP_KEYS, "The grammar")
    start = _text(data, "start", "The grammar")
    literals = {name: repr(value) for name, value in (slots or {}).items()}
    helpers = _helpers(data.get("helpers", {}), literals)
    entries = [
        entry
        for number, rule in enumerate(_rules(data.get("production", [])), start=1)
        for entry in _entries(rule, f"Production {number}", helpers, literals)
    ]
    productions = _normalise(entries)
    _check_reach(start, productions)
    return Grammar(title=str(data.get("title", "")), start=start, productions=productions)


def _helpers(table: object, literals: dict[str, str]) -> dict[str, str]:
    if not isinstance(table, dict):
        raise GrammarError("`helpers` must be a table of module-level code by name.")
    helpers: dict[str, str] = {}
    for name in cast("dict[str, object]", table):
        where = f"The helper {name!r}"
        code = _text(cast("dict[str, object]", table), name, "The table `helpers`")
        helpers[name] = _fill(code, literals, where).strip("\n") + "\n"
        try:
            ast.parse(helpers[name])
        except SyntaxError as error:
            raise GrammarError(f"{where} is not valid Python: {error}.") from None
    return helpers


def _rules(value: object) -> list[dict[str, object]]:
    rules = cast("list[object]", value) if isinstance(value, list) else [value]
    if not rules:
        raise GrammarError("The grammar has no [[production]]; write at least one.")
    if not isinstance(value, list) or not all(isinstance(rule, dict) for rule in rules):
        raise GrammarError("Each `production` must be a table with the header [[production]].")
    return cast("list[dict[str, object]]", rules)


def _entries(
    rule: dict[str, object], where: str, helpers: dict[str, str], literals: dict[str, str]
) -> list[_Entry]:
    _refuse_unknown(rule, _PRODUCTION_KEYS, where)
    state = _text(rule, "state", where)
    where = f"{where} (state {state!r})"
    title, code = _text(rule, "title", where), _text(rule, "code", where)
    following = _text(rule, "next", where) if "next" in rule else None
    weight = rule.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise GrammarError(f"{where}: `weight` must be a number above 0, not {weight!r}.")
    module = "\n\n".join(_helper(name, helpers, where) for name in _names(rule, "uses", where))
    combinations = _combinations(rule.get("each", {}), where)
    entries: list[_Entry] = []
    for values in combinations:
        names = literals | {key: str(value) for key, value in values.items()}
        body = _body(_fill(code, names, where), where, ends=following is None)
        step = Step(_title(_fill(title, names, where), where), body, module)
        entries.append(_Entry(state, step, weight / len(combinations), following))
    return entries


def _title(text: str, where: str) -> str:
    if len(text.splitlines()) > 1:
        raise GrammarError(f"{where}: `title` must be one line; it becomes a comment.")
    return text.strip()


def _body(code: str, where: str, *, ends: bool) -> str:
    try:
        body = indent_code(code, INDENT)
        tree = ast.parse(f"async def step():\n    if True:\n{body}")
    except (SourceError, SyntaxError) as error:
        raise GrammarError(f"{where}: `code` is not Python statements: {error}.") from None
    returns = any(isinstance(node, ast.Return) for node in ast.walk(tree))
    if ends and not returns:
        raise GrammarError(f"{where} ends the workflow but returns nothing; add a `return`.")
    return body


def _combinations(each: object, where: str) -> list[dict[str, object]]:
    table = cast("dict[str, object]", each if isinstance(each, dict) else {"": None})
    lists = {k: cast("list[object]", v) for k, v in table.items() if isinstance(v, list) and v}
    if len(lists) < len(table):
        raise GrammarError(f"{where}: `each` must map names to lists of values.")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _normalise(entries: list[_Entry]) -> dict[str, tuple[Production, ...]]:
    totals: dict[str, float] = {}
    for entry in entries:
        totals[entry.state] = totals.get(entry.state, 0.0) + entry.weight
    return {
        state: tuple(
            Production(entry.step, entry.weight / total, entry.next)
            for entry in entries
            if entry.state == state
        )
        for state, total in totals.items()
    }


def _check_reach(start: str, productions: Mapping[str, tuple[Production, ...]]) -> None:
    """Every named state exists and is reached, and no state leads back to itself."""
    finished: set[str] = set()

    def visit(state: str, path: tuple[str, ...]) -> None:
        if state in path:
            raise GrammarError(f"State {state!r} leads back to itself; a workflow must end.")
        if state not in productions:
            raise GrammarError(f"No production has the state {state!r}, though one leads there.")
        if state in finished:
            return
        for choice in productions[state]:
            if choice.next is not None:
                visit(choice.next, (*path, state))
        finished.add(state)

    visit(start, ())
    unreached = sorted(set(productions) - finished)
    if unreached:
        raise GrammarError(f"Nothing leads to the state {unreached[0]!r}; remove it or link it.")


def _fill(text: str, values: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            known = ", ".join(sorted(values)) or "none"
            raise GrammarError(f"{where} uses <<{name}>>, which nothing fills; known: {known}.")
        return values[name]

    return _SLOT.sub(value, text)


def _helper(name: str, helpers: dict[str, str], where: str) -> str:
    if name not in helpers:
        known = ", ".join(sorted(helpers)) or "none"
        raise GrammarError(
            f"{where} uses the helper {name!r}, which is not defined; known: {known}."
        )
    return helpers[name]


def _names(rule: dict[str, object], key: str, where: str) -> list[str]:
    value = rule.get(key, [])
    if not isinstance(value, list):
        raise GrammarError(f"{where}: `{key}` must be a list of names.")
    return [str(name) for name in cast("list[object]", value)]


def _text(table: dict[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise GrammarError(f"{where} needs the text `{key}`.")
    return value


def _refuse_unknown(table: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise GrammarError(
            f"{where} has the unknown key {unknown[0]!r}; known keys: {', '.join(sorted(known))}."
        )
