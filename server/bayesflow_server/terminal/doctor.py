"""`bayesflow-mcp doctor`: what this machine gives, a line each."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bayesflow_sandbox.errors import SandboxError
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.locked.engine import lock_report
from bayesflow_sandbox.locked.kernel import KernelReport, report
from bayesflow_sandbox.sandbox import EngineName, Sandbox
from bayesflow_sandbox.unit_tests import UnitTests
from bayesflow_server.errors import ServerError
from bayesflow_server.models.endpoints import BUILT_IN_ENDPOINTS, Endpoint
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.settings import Settings
from bayesflow_server.store.store import Store
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.screen import open_console, printable, say, write_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["doctor_command"]

_PROBE = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Count the letters
        return str(len(problem)), 0.0
"""
_SOLUTION = "def add(a, b):\n    return a + b\n"
_TESTS = UnitTests(("assert add(1, 2) == 3",))


class _Finding(NamedTuple):
    """What was tried, and what came of it; a run needs it, or only some do."""

    good: bool
    line: str
    needed: bool = False


class _NoModel:
    """A door that nothing is behind; the probe does not knock."""

    async def call_llm(self, call: LLMCall) -> list[str]:
        return []

    def get_usage_summary(self) -> dict[str, float]:
        return {"total_cost": 0.0}


def doctor_command(
    settings: Settings,
    endpoints: Mapping[str, Endpoint] = BUILT_IN_ENDPOINTS,
    *,
    as_json: bool = False,
) -> int:
    """Checks models, sandbox and database; 1 if something that every run needs does not work.

    The locked engine is not among that: workflows run without it, unit tests do not.
    """
    findings = [*_models(endpoints), *asyncio.run(_check(settings))]
    good = all(finding.good for finding in findings if finding.needed)
    if as_json:
        write_json({"ok": good, "findings": [_finding_json(finding) for finding in findings]})
    else:
        _print(open_console(), findings)
    return DONE if good else UNFINISHED


def _finding_json(finding: _Finding) -> dict[str, object]:
    subject, _, told = finding.line.partition(": ")
    return {
        "ok": finding.good,
        "needed": finding.needed,
        "subject": subject,
        "told": told,
    }


def _print(console: "Console", findings: Sequence[_Finding]) -> None:
    """A line each; on a terminal long ones are broken beside their mark."""
    if not console.is_terminal:
        for finding in findings:
            say(console, f"{'ok' if finding.good else '--'}  {finding.line}")
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = Text("ok", "green") if finding.good else Text("--", "yellow")
        grid.add_row(mark, Text(printable(finding.line)))
    console.print(grid)


def _models(endpoints: Mapping[str, Endpoint]) -> list[_Finding]:
    registry = ModelRegistry(endpoints=endpoints)
    return [
        _Finding(
            model.ready,
            f"model {model.spec}"
            + _place(endpoints.get(model.provider))
            + (f": {model.why_not}" if model.why_not else ""),
        )
        for model in registry.available()
    ]


def _place(endpoint: Endpoint | None) -> str:
    """Where an endpoint of the user's own is, and how it may be asked."""
    if endpoint is None or endpoint.base_url is None:
        return ""
    said = [f"at {endpoint.base_url}", f"{endpoint.concurrency} at once"]
    if endpoint.key_variable is not None:
        said.append(f"key in {endpoint.key_variable}")
    pace = endpoint.pace
    if pace.requests_per_minute is not None:
        said.append(f"{pace.requests_per_minute:g} calls a minute")
    if pace.tokens_per_minute is not None:
        said.append(f"{pace.tokens_per_minute:g} tokens a minute")
    if pace.call_seconds is not None:
        said.append(f"at most {pace.call_seconds:g} s a call")
    if endpoint.price is not None:
        said.append(f"USD {endpoint.price.input:g} in, {endpoint.price.output:g} out per million")
    return f" ({', '.join(said)})"


async def _check(settings: Settings) -> list[_Finding]:
    """What every run needs, and what only some do."""
    return [
        (await _sandbox())._replace(needed=True),
        (await _database(settings))._replace(needed=True),
        *await _lock(),
    ]


async def _sandbox() -> _Finding:
    try:
        return _Finding(True, f"sandbox: {await _probe('monty')}")
    except SandboxError as error:
        return _Finding(False, f"sandbox: {error}")


async def _lock() -> list[_Finding]:
    kernel, why = report(), None
    try:
        kernel = await lock_report()
        why = kernel.missing()
        ran = "" if why else f"{await _probe('locked')}, {await _test_probe()}"
    except SandboxError as error:
        why, ran = str(error), ""
    lacking = f"none, so no unit tests; workflows run without it ({why})"
    return [
        _Finding(kernel.missing() is None, f"kernel: {_offers(kernel)}"),
        _Finding(why is None, f"locked engine: {lacking if why else ran}"),
    ]


def _offers(kernel: KernelReport) -> str:
    spaces = "not tried" if kernel.namespaces is None else ", ".join(kernel.namespaces) or "none"
    return (
        f"{kernel.system} on {kernel.machine}, {'seccomp' if kernel.seccomp else 'no seccomp'}, "
        f"{f'Landlock ABI {kernel.landlock}' if kernel.landlock else 'no Landlock'}, "
        f"namespaces: {spaces}"
    )


async def _probe(engine: EngineName) -> str:
    """Runs a workflow; raises SandboxError if that does not work."""
    async with Sandbox(workers=1, engine=engine) as sandbox:
        outcome = await sandbox.run_workflow(_PROBE, ("four",), _NoModel())
    if outcome.failure is not None:
        raise SandboxError(outcome.failure.message)
    return f"a workflow ran in {outcome.seconds * 1000:.1f} ms"


async def _test_probe() -> str:
    async with Sandbox(workers=1, engine="locked") as sandbox:
        told = await sandbox.run_tests(_SOLUTION, "add", _TESTS)
    if not told.passed:
        raise SandboxError(f"a right solution does not pass its test: {told.error}")
    return f"a unit test in {told.seconds * 1000:.1f} ms"


async def _database(settings: Settings) -> _Finding:
    try:
        async with await Store.open(settings.db) as store:
            runs = await store.runs(1)
    except ServerError as error:
        return _Finding(False, f"database: {error}")
    newest = f", newest run {runs[0].run_id}" if runs else ", no runs yet"
    return _Finding(True, f"database: {settings.db}{newest}")
