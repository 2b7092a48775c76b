"""What the conformance suite calls that asks the client back: elicitation, sampling, roots.

On the older wire the server sends a request while the call waits; on the newer one the call ends
with the questions, and comes again with the answers.
"""

from typing import Final, TypeAlias

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)
from pydantic import JsonValue

__all__ = ["elicited", "form", "register_asking"]

AnyContext: TypeAlias = Context[object, object]
Filled: TypeAlias = str | int | float | bool | list[str] | None
Question: TypeAlias = CreateMessageRequest | ListRootsRequest | ElicitRequest

_TEXT: Final[dict[str, JsonValue]] = {"type": "string"}
_CHOICES: Final[list[JsonValue]] = ["option1", "option2", "option3"]
_TITLED: Final[list[JsonValue]] = [
    {"const": f"value{number}", "title": f"{nth} option"}
    for number, nth in enumerate(("First", "Second", "Third"), 1)
]
_DEFAULTS: Final[dict[str, JsonValue]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_ENUMS: Final[dict[str, JsonValue]] = {
    "untitledSingle": {"type": "string", "enum": _CHOICES},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _CHOICES}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


def _schema(properties: dict[str, JsonValue], *, required: bool = True) -> dict[str, JsonValue]:
    names: list[JsonValue] = [*properties] if required else []
    return {"type": "object", "properties": properties, "required": names}


def form(message: str, name: str, kind: str = "string") -> ElicitRequest:
    """A form of one field."""
    schema = _schema({name: {"type": kind}})
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def elicited(ctx: AnyContext, key: str, field: str) -> Filled:
    """What the user filled in, or None without an answer, or without a fitting one."""
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, ElicitResult) and answer.action == "accept" and answer.content:
        return answer.content.get(field)
    return None


def _sampling(prompt: str, most: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=[message], max_tokens=most)
    )


def _sampled(ctx: AnyContext, key: str) -> str | None:
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, CreateMessageResult) and isinstance(answer.content, TextContent):
        return answer.content.text
    return None


def _roots(ctx: AnyContext, key: str) -> list[str] | None:
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, ListRootsResult):
        return [str(root.uri) for root in answer.roots]
    return None


def _ask(state: str | None = None, /, **questions: Question) -> InputRequiredResult:
    return InputRequiredResult(input_requests=dict(questions), request_state=state)


def register_asking(server: MCPServer[object]) -> None:
    """Registers all of them on a server."""
    _register_waiting(server)
    _register_single_questions(server)
    _register_stateful(server)
    _register_capabilities(server)

    @server.prompt()
    async def test_input_required_result_prompt(ctx: AnyContext) -> str | InputRequiredResult:
        """A prompt that needs to know its context."""
        known = elicited(ctx, "user_context", "context")
        if known is None:
            question = form("What context should the prompt use?", "context")
            return _ask(user_context=question)
        return f"The context is {known}."


def _register_waiting(server: MCPServer[object]) -> None:
    async def ask(ctx: AnyContext, message: str, schema: dict[str, JsonValue]) -> str:
        answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
        return f"User response: action={answer.action}, content={answer.content}"

    @server.tool(structured_output=False)
    async def test_sampling(prompt: str, ctx: AnyContext) -> str:
        """Lets the client's model answer."""
        answer = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
            [SamplingMessage(role="user", content=TextContent(text=prompt))],
            max_tokens=100,
            related_request_id=ctx.request_id,
        )
        content = answer.content
        return f"LLM response: {content.text if isinstance(content, TextContent) else '(no text)'}"

    @server.tool(structured_output=False)
    async def test_elicitation(message: str, ctx: AnyContext) -> str:
        """Asks the user for a name and an address."""
        return await ask(ctx, message, _schema({"username": _TEXT, "email": _TEXT}))

    @server.tool(structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: AnyContext) -> str:
        """Asks by a form whose fields have defaults."""
        return await ask(ctx, "Please check these values.", _schema(_DEFAULTS, required=False))

    @server.tool(structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: AnyContext) -> str:
        """Asks by a form of every kind of choice."""
        return await ask(ctx, "Please choose.", _schema(_ENUMS, required=False))


def _register_single_questions(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def test_input_required_result_elicitation(ctx: AnyContext) -> str | InputRequiredResult:
        """Greets the user by name."""
        name = elicited(ctx, "user_name", "name")
        if not isinstance(name, str):
            return _ask(user_name=form("What is your name?", "name"))
        return f"Hello, {name}!"

    @server.tool(structured_output=False)
    async def test_streaming_elicitation(ctx: AnyContext) -> str | InputRequiredResult:
        """Asks over a stream that must not carry requests of its own."""
        name = elicited(ctx, "user_name", "name")
        if not isinstance(name, str):
            return _ask(user_name=form("What is your name?", "name"))
        return f"Hello, {name}!"

    @server.tool(structured_output=False)
    async def test_input_required_result_sampling(ctx: AnyContext) -> str | InputRequiredResult:
        """Lets the client's model answer."""
        text = _sampled(ctx, "capital_question")
        if text is None:
            return _ask(capital_question=_sampling("What is the capital of France?"))
        return f"The model says: {text}"

    @server.tool(structured_output=False)
    async def test_input_required_result_list_roots(ctx: AnyContext) -> str | InputRequiredResult:
        """Lists the client's roots."""
        roots = _roots(ctx, "client_roots")
        if roots is None:
            return _ask(client_roots=ListRootsRequest())
        return f"Roots: {', '.join(roots)}"


def _register_stateful(server: MCPServer[object]) -> None:
    async def confirmed(ctx: AnyContext) -> str | InputRequiredResult:
        if ctx.request_state != "asked" or elicited(ctx, "confirm", "ok") is None:
            return _ask("asked", confirm=form("Please confirm", "ok", "boolean"))
        return "state-ok"

    @server.tool(structured_output=False)
    async def test_input_required_result_request_state(
        ctx: AnyContext,
    ) -> str | InputRequiredResult:
        """Asks, and keeps its state with the client."""
        return await confirmed(ctx)

    @server.tool(structured_output=False)
    async def test_input_required_result_tampered_state(
        ctx: AnyContext,
    ) -> str | InputRequiredResult:
        """The same; the server refuses a state that is not its own before the tool sees it."""
        return await confirmed(ctx)

    @server.tool(structured_output=False)
    async def test_input_required_result_multiple_inputs(
        ctx: AnyContext,
    ) -> str | InputRequiredResult:
        """Asks three things at once."""
        name = elicited(ctx, "user_name", "name")
        greeting, roots = _sampled(ctx, "greeting"), _roots(ctx, "client_roots")
        if name is None or greeting is None or roots is None:
            return _ask(
                "asked",
                user_name=form("What is your name?", "name"),
                greeting=_sampling("Generate a greeting", 50),
                client_roots=ListRootsRequest(),
            )
        return f"{greeting} {name}; roots: {', '.join(roots)}"

    @server.tool(structured_output=False)
    async def test_input_required_result_multi_round(
        ctx: AnyContext,
    ) -> str | InputRequiredResult:
        """Asks for a name, then for a colour."""
        first, second = elicited(ctx, "step1", "name"), elicited(ctx, "step2", "color")
        if ctx.request_state is None or (ctx.request_state == "first" and first is None):
            return _ask("first", step1=form("Step 1: What is your name?", "name"))
        if ctx.request_state == "first" or second is None:
            name = first if ctx.request_state == "first" else ctx.request_state
            question = form("Step 2: What is your favorite color?", "color")
            return _ask(str(name), step2=question)
        return f"{ctx.request_state} likes {second}."


def _register_capabilities(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def test_input_required_result_capabilities(
        ctx: AnyContext,
    ) -> str | InputRequiredResult:
        """Asks only what the client has said it can answer."""
        if ctx.input_responses:
            return "Answered."
        able = ctx.client_capabilities
        questions: dict[str, Question] = {}
        if able is not None and able.elicitation is not None:
            questions["user_name"] = form("What is your name?", "name")
        if able is not None and able.sampling is not None:
            questions["greeting"] = _sampling("Generate a greeting", 50)
        if able is not None and able.roots is not None:
            questions["client_roots"] = ListRootsRequest()
        return _ask(**questions) if questions else "The client can answer nothing."

    @server.tool(structured_output=False)
    async def test_missing_capability(ctx: AnyContext) -> str:
        """Needs a client that samples."""
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            needed: JsonValue = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs a client that samples.", needed
            )
        return "The client samples."
