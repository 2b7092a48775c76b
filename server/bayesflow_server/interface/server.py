"""The MCP server: tools, resources, prompts, completions. Serves both protocol revisions."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
)
from mcp.server.mcpserver.tools import Tool
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    PromptReference,
    RequestParams,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp.types import Tool as ListedTool
from pydantic import AnyUrl

from bayesflow_server.excerpt import excerpt
from bayesflow_server.interface.addresses import is_ours
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.instructions import instructions_for
from bayesflow_server.interface.stored_tasks import StoredTasks
from bayesflow_server.interface.tasks_extension import TASKS, TasksExtension
from bayesflow_server.interface.toolset import Narrowing, make_tools
from bayesflow_server.interface.updates import UpdateBus, Updates
from bayesflow_server.interface.wire import UNREADABLE, refuse_unreadable

if TYPE_CHECKING:
    from bayesflow_server.interface.completions import Completions
    from bayesflow_server.interface.prompts import Prompts
    from bayesflow_server.interface.resources import Resources

__all__ = ["BayesFlowServer", "LogLevel"]

LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_Reference: TypeAlias = PromptReference | ResourceTemplateReference
_Completer: TypeAlias = Callable[
    [_Reference, CompletionArgument, CompletionContext | None], Awaitable[Completion | None]
]
_CompleterT = TypeVar("_CompleterT", bound=Callable[..., Any])

VERSION: Final = "0.1.0"

_LOG = logging.getLogger(__name__)
_EVERYTHING: Final = Narrowing()
_LONGEST_URI: Final = 200


class BayesFlowServer(MCPServer[object]):
    """The server: what is ours, and whatever is registered on it by the SDK's own ways.

    Our tools, resources and prompts are made when they are first asked for. So a host has its first
    answer as soon as the protocol stands; schemas, and what they are made from, take another tenth
    of a second.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        log_level: LogLevel = "WARNING",
        narrowing: Narrowing = _EVERYTHING,
        extensions: Sequence[Extension] = (),
    ) -> None:
        """Makes no tool yet.

        Args:
            backend: Gives the tools their services; the caller closes it when serving has ended.
            log_level: Of the log on stderr.
            narrowing: Which tools are offered; instructions and prompts speak of no other.
            extensions: Further protocol extensions; tasks of another source replace ours.

        Raises:
            InputError: `narrowing` names what is no tool, or leaves none.
        """
        bus = UpdateBus()
        self._updates = Updates(backend, bus)
        offered = narrowing.offered()
        super().__init__(
            "bayesflow-mcp",
            title="BayesFlow",
            version=VERSION,
            instructions=instructions_for(offered),
            log_level=log_level,
            extensions=_with_tasks(StoredTasks(backend, offered), extensions),
            subscriptions=bus,
            lifespan=_life,
        )
        self._backend = backend
        self._narrowing = narrowing
        self._tools: dict[str, Tool] | None = None
        self._resources: Resources | None = None
        self._prompts: Prompts | None = None
        self._completions: Completions | None = None
        self._other_completer: _Completer | None = None
        self._streams = ListenHandler(bus)
        self._serve_further()

    # --- tools ------------------------------------------------------------------------------

    async def list_tools(self) -> list[ListedTool]:
        """What clients may call."""
        ours = [
            ListedTool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.parameters,
                output_schema=tool.output_schema,
                annotations=tool.annotations,
            )
            for tool in self._made().values()
        ]
        return ours + await super().list_tools()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[object, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool.

        Raises:
            ToolError: One sentence that says what is wrong and what to do.
        """
        tool = self._made().get(name)
        if tool is None:
            if self._tool_manager.get_tool(name) is not None:
                return await super().call_tool(name, arguments, context)
            known = ", ".join(self._made())
            raise ToolError(f"There is no tool {excerpt(name, 60)!r}; there are {known}.")
        context = context or Context(mcp_server=self)
        result: CallToolResult | InputRequiredResult = await tool.run(
            arguments, context, convert_result=True
        )
        return result

    def _made(self) -> dict[str, Tool]:
        if self._tools is None:
            self._tools = make_tools(self._backend, self._narrowing)
        return self._tools

    # --- resources --------------------------------------------------------------------------

    async def list_resources(self) -> list[Resource]:
        """The list of runs, the newest runs, and what else is registered."""
        return await self._shown().listed() + await super().list_resources()

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """How to address a run, its pool and story, and a workflow."""
        return self._shown().templates() + await super().list_resource_templates()

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[object, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Reads a resource.

        Raises:
            ResourceNotFoundError: The URI names nothing that there is.
            ResourceError: One sentence that says what is wrong and what to do.
        """
        shown = excerpt(str(uri), _LONGEST_URI)
        if not is_ours(str(uri)):
            try:
                return await super().read_resource(uri, context)
            except ResourceNotFoundError as error:  # its text is the whole URI, however long
                raise ResourceNotFoundError(
                    f"There is no resource {shown!r}; resources/list names those there are."
                ) from error
        try:
            return await self._shown().read(str(uri))
        except ResourceError:
            raise
        except Exception as error:
            raise UnexpectedResourceError(f"Reading {shown!r} {_DEFECT}") from error

    def _shown(self) -> "Resources":
        if self._resources is None:
            from bayesflow_server.interface.resources import Resources  # builds schemas

            self._resources = Resources(self._backend)
        return self._resources

    # --- updates ----------------------------------------------------------------------------

    def _serve_further(self) -> None:
        """Serves streams of the newer revision, subscriptions of the older one, completions.

        And a request that nobody can read, of which `wire` knows the id.
        """
        server = self._lowlevel_server
        server.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, self._stream
        )
        server.add_request_handler(
            "resources/subscribe", SubscribeRequestParams, self._updates.subscribe
        )
        server.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, self._updates.unsubscribe
        )
        server.add_request_handler("completion/complete", CompleteRequestParams, self._complete)
        server.add_request_handler(UNREADABLE, RequestParams, refuse_unreadable)

    async def _stream(
        self, context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        async with self._updates.heard(params.notifications):
            return await self._streams(context, params)

    async def settle(self) -> None:
        """Returns when nothing runs any more for clients that are gone."""
        await self._updates.settled()

    # --- prompts ----------------------------------------------------------------------------

    async def list_prompts(self) -> list[Prompt]:
        """The prompts that the offered tools allow, and what else is registered."""
        return self._written().listed() + await super().list_prompts()

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[object, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Writes a prompt.

        Raises:
            MCPError: One sentence that says what is wrong and what to do.
        """
        if self._prompt_manager.get_prompt(name) is not None:
            return await super().get_prompt(name, arguments, context)
        try:
            return await self._written().get(name, arguments or {})
        except MCPError:
            raise
        except Exception as error:
            _LOG.exception("prompt %r failed", name)
            raise MCPError(
                INTERNAL_ERROR, f"Writing the prompt {excerpt(name, 60)} {_DEFECT}"
            ) from error

    def _written(self) -> "Prompts":
        if self._prompts is None:
            from bayesflow_server.interface.prompts import Prompts  # not needed by most clients

            self._prompts = Prompts(self._backend, self._narrowing.offered())
        return self._prompts

    # --- completions ------------------------------------------------------------------------

    def completion(self) -> "_Registers":
        """Registers what completes the arguments of prompts and templates that are not ours."""

        def register(func: _CompleterT) -> _CompleterT:
            self._other_completer = func
            return func

        return register

    async def _complete(
        self, context: ServerRequestContext[Any, Any], params: CompleteRequestParams
    ) -> CompleteResult:
        try:
            found = await self._completed(params)
        except MCPError:
            raise
        except Exception as error:
            _LOG.exception("completion of %r failed", params.argument.name)
            raise MCPError(INTERNAL_ERROR, f"Completing an argument {_DEFECT}") from error
        return CompleteResult(completion=found or Completion(values=[]))

    async def _completed(self, params: CompleteRequestParams) -> Completion | None:
        if self._completions is None:
            from bayesflow_server.interface.completions import Completions  # as the prompts

            self._completions = Completions(self._backend)
        known = (params.context.arguments if params.context is not None else None) or {}
        argument = params.argument
        found = await self._completions.complete(
            params.ref, argument.name, argument.value, known.get("run_id")
        )
        if found is None and self._other_completer is not None:
            return await self._other_completer(params.ref, argument, params.context)
        return found


class _Registers(Protocol):
    """A decorator that leaves its function as it is."""

    def __call__(self, func: _CompleterT) -> _CompleterT: ...


_DEFECT: Final = (
    "failed inside the server, which is a defect of bayesflow-mcp; the log on its stderr tells "
    "more."
)


@asynccontextmanager
async def _life(server: MCPServer[object]) -> AsyncGenerator[object]:
    """What a connection's end waits for."""
    yield {}
    assert isinstance(server, BayesFlowServer)
    await server.settle()


def _with_tasks(source: StoredTasks, extensions: Sequence[Extension]) -> Sequence[Extension]:
    if any(extension.identifier == TASKS for extension in extensions):
        return extensions
    return (TasksExtension(source), *extensions)
