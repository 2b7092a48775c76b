"""The door: every host function that sandboxed code may call, by name and behind its schema.

``WorkflowHost`` is what the application gives for one execution. ``workflow_functions`` turns it
into the registry of named entries that an engine serves, with ``exec_code`` where a problem has
public tests; further entries (tools) join there. Arguments come from untrusted code: an entry
checks them before its handler sees them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bayesflow_sandbox.llm_call import LLMCall, parse_llm_call
from bayesflow_sandbox.outcome import JsonValue
from bayesflow_sandbox.unit_tests import ExecCode, parse_exec_code

__all__ = [
    "ExecCodeFunction",
    "HostFunction",
    "HostFunctions",
    "WorkflowHost",
    "workflow_functions",
]


class WorkflowHost(Protocol):
    """What one execution of a workflow may reach."""

    async def call_llm(self, call: LLMCall, /) -> list[str]:
        """Answers one checked call with ``call.num_of_response`` texts.

        Raises:
            CallRefusedError: The workflow asked for something impossible; it sees a ValueError.
            Exception: Anything else is a fault of the host: the execution is aborted, whatever the
                workflow's own ``try`` says, and ``run_workflow`` raises this very object.
        """
        ...

    def get_usage_summary(self) -> Mapping[str, float]:
        """Returns at least ``total_cost`` in USD, as far as this execution has got. Cheap."""
        ...


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One named entry of the door.

    Attributes:
        name: What the workflow calls.
        effects: Whether a call changes something outside; such a call is never cached or replayed.
        serve: Takes the raw positional and keyword arguments. Checks them at once, without a side
            effect (its TypeError or ValueError goes to the workflow), and returns the work to
            await; whatever that raises follows the rule of ``WorkflowHost.call_llm``.
    """

    name: str
    effects: bool
    serve: Callable[[tuple[object, ...], Mapping[str, object]], Awaitable[JsonValue]]


HostFunctions = Mapping[str, HostFunction]
ExecCodeFunction = Callable[[ExecCode], Awaitable[JsonValue]]


def workflow_functions(
    host: WorkflowHost, exec_code: ExecCodeFunction | None = None
) -> HostFunctions:
    """Returns the registry for one execution of a workflow.

    Args:
        host: Answers ``call_llm``.
        exec_code: Answers ``exec_code``; None: the workflow has none.
    """

    def serve_call_llm(
        args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Awaitable[JsonValue]:
        return _answer(host, parse_llm_call(args, kwargs))

    functions = [HostFunction("call_llm", effects=False, serve=serve_call_llm)]
    if exec_code is not None:
        functions.append(HostFunction("exec_code", effects=False, serve=_serving(exec_code)))
    return {function.name: function for function in functions}


def _serving(
    exec_code: ExecCodeFunction,
) -> Callable[[tuple[object, ...], Mapping[str, object]], Awaitable[JsonValue]]:
    return lambda args, kwargs: exec_code(parse_exec_code(args, kwargs))


async def _answer(host: WorkflowHost, call: LLMCall) -> JsonValue:
    return list(await host.call_llm(call))
