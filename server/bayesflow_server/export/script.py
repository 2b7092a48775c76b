"""A workflow as one plain Python file that needs a provider's SDK and nothing of ours.

The file is put together from the texts in `template/`: settings, `call_llm` as the sandbox's door
means it, the provider's calls, the workflow between two marker lines, a command line. The workflow
stands in it as text and runs in a module of its own for each row, as inside: so no name of the
file meets one of the workflow's, and any source can be taken out again byte for byte.
"""

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, Literal, NamedTuple

from bayesflow_sandbox.policy import check_workflow, names_exec_code
from bayesflow_sandbox.steps import source_lines
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.problem_tests import CodeFields, takes_entry_point
from bayesflow_server.models.endpoints import BUILT_IN_ENDPOINTS, Api, Price
from bayesflow_server.runs.exported import BEGIN, END
from bayesflow_server.runs.options import Tier

__all__ = ["ExportSettings", "ScoreLine", "script_of"]

_NAME: Final = "WORKFLOW"
_LONGEST_TASK: Final = 400
_OWN_FIELDS: Final = frozenset({"target", "id", "split", "group"})


class ScoreLine(NamedTuple):
    """The score of a finished run's winner on its test rows, with a 95 % interval."""

    score: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What a script depends on beside the workflow.

    Attributes:
        executor: The model it calls, as a run names it.
        api: The wire that the model speaks.
        workflow_id: The workflow, or None.
        run_id: The run it is from, or None.
        task: The task in its author's words, or None.
        tested: The test score, where the workflow won a finished run.
        tiers: Models that it may call by tier, as a run names them.
        fields: Our name → the field of a row.
        price: What tokens cost; None: unknown.
        code: Where a coding task's rows hold tests and functions' names; None: it is none.
    """

    executor: str
    api: Api
    workflow_id: str | None = None
    run_id: str | None = None
    task: str | None = None
    tested: ScoreLine | None = None
    tiers: Mapping[Tier, str] = field(default_factory=dict[Tier, str])
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    price: Price | None = None
    code: CodeFields | None = None

    @property
    def place(self) -> str:
        """What stands before the colon of the executor."""
        return self.executor.partition(":")[0]

    @property
    def public_tests(self) -> str | None:
        """The field of a row with the tests that `exec_code` runs; None: there is no such thing."""
        return self.code.public if self.code else None

    @property
    def model(self) -> str:
        """The provider's own name for the model."""
        return self.executor.partition(":")[2]


class _Sdk(NamedTuple):
    package: Api
    key: str
    url: str


_SDKS: Final[Mapping[Api, _Sdk]] = {
    "openai": _Sdk("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": _Sdk("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
}


class _Needs(NamedTuple):
    """What a workflow uses of the world beside `call_llm`."""

    exec_code: bool
    entry_point: bool
    random: bool
    tiers: bool


def script_of(source: str, settings: ExportSettings) -> str:
    """The workflow as a Python file.

    Raises:
        InputError: The workflow breaks the static policy, or calls models of two providers.
    """
    broken = check_workflow(source, exec_code=settings.public_tests is not None)
    if broken is not None:
        raise InputError(f"The workflow breaks the policy, so it is not exported: {broken}")
    needs = _needs(source, settings)
    parts = [
        _docstring(settings, needs) + "\n\n" + _imports(settings, needs),
        _constants(settings, needs),
        _part("call").replace("__ASK__\n", _SEEDED_ASK if needs.random else _ASK),
        _part(settings.api),
        *([_part("exec_code")] if needs.exec_code else []),
        _running(needs),
        _embedded(source),
        _part("command"),
    ]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _needs(source: str, settings: ExportSettings) -> _Needs:
    tree = ast.parse("".join(source_lines(source)))
    nodes = list(ast.walk(tree))
    return _Needs(
        exec_code=names_exec_code(source, tree),
        entry_point=settings.code is not None and takes_entry_point(source),
        random=any(
            (isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names))
            or (isinstance(node, ast.ImportFrom) and node.module == "random")
            for node in nodes
        ),
        tiers=any(isinstance(node, ast.keyword) and node.arg == "tier" for node in nodes),
    )


def _docstring(settings: ExportSettings, needs: _Needs) -> str:
    sdk = _SDKS[settings.api]
    found = f"of the run {settings.run_id} " if settings.run_id else ""
    tested = settings.tested
    if tested is not None:
        score = (
            f"Score on {tested.rows} test rows that the search never saw: {tested.score:.3f}, "
            f"with a 95 % interval from {tested.low:.3f} to {tested.high:.3f}."
        )
    else:
        score = "It has no test score: only the winner of a finished run has one."
    where = _where(settings)
    paragraphs = [
        f"The workflow {settings.workflow_id or ''} {found}by bayesflow-mcp, for the model "
        f"{_plain(settings.executor)}. {score}",
        *([f"The task, in its author's words: {_plain(settings.task)}"] if settings.task else []),
        f"\n    pip install {sdk.package}"
        '\n    python workflow.py "a question"'
        "\n    python workflow.py --rows in.jsonl --out answers.jsonl",
        f"The key is read from {sdk.key}. {where}".strip(),
        *([_TESTS] if needs.exec_code else []),
        "A program wrote the workflow. It passed the static policy of bayesflow-mcp when this file "
        "was made: it names no file, network, process or other module than those that it imports. "
        "Here nothing enforces that: there is no sandbox, nor a limit of its time and memory. "
        "What it asks, and what becomes of the answers, is the same as in the run; what is drawn "
        "above temperature 0 is drawn anew, and the clock is the machine's.",
    ]
    body = "\n\n".join(
        text.strip("\n") if text.startswith("\n") else _wrapped(text) for text in paragraphs
    )
    return f'"""{body}\n"""'


_TESTS: Final = (
    "The workflow runs code that a model wrote on the tests of a row (PUBLIC_TESTS, a text or a "
    "list of them). That is done in the sandbox of bayesflow-mcp alone: install it beside the SDK."
)


def _where(settings: ExportSettings) -> str:
    url = _SDKS[settings.api].url
    if settings.place in BUILT_IN_ENDPOINTS:
        return ""
    if settings.place == "local":
        return (
            "The run used a local model: serve its weights by an OpenAI-compatible server, as "
            "`llama-server -m WEIGHTS.gguf --port 8080` does, and give its URL as "
            f"`--base-url http://127.0.0.1:8080/v1` or in {url}."
        )
    return (
        f"The run asked the endpoint '{_plain(settings.place)}', whose URL is not in this file: "
        f"give it as --base-url or in {url}."
    )


def _imports(settings: ExportSettings, needs: _Needs) -> str:
    modules = ["argparse", "asyncio", "contextlib", "json", "math", "os", "re", "sys"]
    modules += ["traceback", "types", "typing"] + (["random"] if needs.random else [])
    lines = [f"import {name}" for name in sorted(modules)]
    if needs.exec_code:
        lines.append("from concurrent.futures import ThreadPoolExecutor")
    lines.append("from dataclasses import dataclass")
    text = "\n".join(lines)
    package = settings.api
    text += (
        f"\n\ntry:\n    import {package}\nexcept ImportError:\n"
        f'    sys.exit("This script needs a package: pip install {package}")\n'
    )
    return text + (_SANDBOX if needs.exec_code else "")


_SANDBOX: Final = """\
try:
    from bayesflow_sandbox.sandbox import Sandbox
    from bayesflow_sandbox.unit_tests import (
        UnitTests,
        exec_code_answer,
        parse_exec_code,
    )
    from bayesflow_server.evaluation.problem_tests import closed_prompt
except ImportError:
    Sandbox = None
"""


def _constants(settings: ExportSettings, needs: _Needs) -> str:
    sdk = _SDKS[settings.api]
    local = settings.place == "local"
    prices = settings.price or Price(0.0, 0.0)
    priced = "" if settings.price else "; unknown, so 0"
    needed = f"give --base-url or set {sdk.url}: see -h for why" if _where(settings) else ""
    fields = {ours: theirs for ours, theirs in settings.fields.items() if ours not in _OWN_FIELDS}
    lines = [
        f"MODEL = {_text(settings.model)}",
        f"KEY_VARIABLE = {_text(sdk.key)}",
        f"URL_VARIABLE = {_text(sdk.url)}",
        f"NEEDS_URL = {_text(needed)}",
        f"# Our name for an input, and a row's.\nINPUTS = {_table(fields or {'input': 'input'})}",
        f"TIERS: dict[str, str] = {_table(_tiers(settings, needs))}",
        f"# USD per million tokens in and out{priced}.",
        f"PRICE = ({prices.input!r}, {prices.output!r})",
        f"DEFAULT_MAX_TOKENS = {512 if local else 4096}",
    ]
    if settings.code is not None and needs.entry_point:
        lines.append(f"ENTRY_POINT = {_text(settings.code.entry_point)}  # a row's field")
    if settings.code is not None and needs.exec_code:
        prompt = settings.code.prompt
        lines.append(f"PUBLIC_TESTS = {_text(settings.code.public or '')}  # a row's field")
        lines.append("# A row's field of code that a solution continues.")
        lines.append(f"CODE_PROMPT = {_text(prompt) if prompt else None}")
    if settings.api == "openai":
        names = ["max_completion_tokens", "max_tokens"]
        first = names if settings.place in BUILT_IN_ENDPOINTS else names[::-1]
        lines.append(f'LIMIT_NAMES = ("{first[0]}", "{first[1]}")')
        lines.append(f"DEFAULT_TEMPERATURE = {0.8 if local else None}")
    lines += [
        "MAX_CALLS = 200  # of one row",
        "MAX_RETRIES = 6  # the SDK waits in between, as long as the server says",
        "TIMEOUT = 120.0",
    ]
    return "\n".join(lines)


def _tiers(settings: ExportSettings, needs: _Needs) -> dict[str, str]:
    """The models of the tiers, by their names at the executor's own provider."""
    if not needs.tiers:
        return {}
    for tier, spec in settings.tiers.items():
        if spec.partition(":")[0] != settings.place:
            raise InputError(
                f"The workflow may call the tier '{tier}' ({spec}), and a script speaks to one "
                f"provider only, that of {settings.executor}; name an `executor` of the same."
            )
    return {tier: spec.partition(":")[2] for tier, spec in settings.tiers.items()}


def _running(needs: _Needs) -> str:
    text = _part("running")
    swaps = {
        "__ROW_PARAMETER__": ", row: dict, problem: str" if needs.exec_code else "",
        "__ROW_ARGUMENT__": ", row, problem" if needs.exec_code else "",
        "__EXEC_CODE_NAME__\n": "    module.exec_code = tester(row, problem)\n"
        if needs.exec_code
        else "",
        "__SEED__\n": "        random.seed(0)  # as in the run\n" if needs.random else "",
        "__ARGUMENTS__": "problem, row.get(ENTRY_POINT)" if needs.entry_point else "problem",
    }
    for mark, words in swaps.items():
        text = text.replace(mark, words)
    return text


_ASK: Final = """\
            found = await self._models.ask(model, question, num_of_response, meter)
"""
_SEEDED_ASK: Final = """\
            state = random.getstate()  # other rows draw meanwhile
            try:
                found = await self._models.ask(model, question, num_of_response, meter)
            finally:
                random.setstate(state)
"""


def _embedded(source: str) -> str:
    return f"{BEGIN}\n{_NAME} = {_literal(source)}\n{END}"


def _literal(source: str) -> str:
    """A literal of the source behind one newline: as it stands if Python and eyes can read it."""
    if all(mark.isprintable() or mark in "\n\t" for mark in source):
        for quotes in ('"""', "'''"):
            if quotes not in source and not source.endswith((quotes[0], "\\")):
                return f"r{quotes}\n{source}{quotes}"
    return '"""\n' + "".join(map(_escaped, source)) + '"""'


def _escaped(mark: str) -> str:
    if mark in '\\"':
        return "\\" + mark
    if mark in "\n\t" or mark.isprintable():
        return mark
    return mark.encode("unicode_escape").decode("ascii")


def _part(name: Literal["call", "openai", "anthropic", "exec_code", "running", "command"]) -> str:
    path = files("bayesflow_server.export").joinpath("template", f"{name}.txt")
    return path.read_text("utf-8")


def _table(values: Mapping[str, str]) -> str:
    inner = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in values.items())
    return f"{{{inner}}}"


def _text(value: str) -> str:
    """A literal in double quotes where that needs no escape."""
    plain = repr(value)
    return f'"{plain[1:-1]}"' if not re.search("[\"']", value) else plain


def _plain(text: str) -> str:
    """Text of a person or a program, fit to stand in a docstring."""
    marks = (mark if mark.isprintable() else " " for mark in text[:_LONGEST_TASK])
    words = "".join(marks).replace("\\", "/").replace('"', "'").replace("%(", "% (").split()
    return " ".join(words) + (" …" if len(text) > _LONGEST_TASK else "")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 84, break_long_words=False, break_on_hyphens=False)
