"""The user's word, before a request spends more than the server's owner lets go unasked.

What a request may spend is known once it is checked and before anything is written. A client that
can show its user a form is asked by one: on protocol 2025-11-25 by a request of ours within the
call, on 2026-07-28 by an interim result that the client answers with the same call again. Any other
client is told to ask, and to say `confirmed` then.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from bayesflow_server.errors import InputError
from bayesflow_server.excerpt import ERROR, excerpt
from bayesflow_server.gateway.budget import DEFAULT_CALLS
from bayesflow_server.gateway.usage import is_free

__all__ = ["Stake", "ask_user", "ticket_of"]

AnyContext: TypeAlias = Context[Any, Any]

_KEY: Final = "budget"
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "agree": {
            "type": "boolean",
            "title": "I agree",
            "description": "Nothing is started or spent unless you do.",
            "default": False,
        }
    },
    "required": ["agree"],
}


class Stake(NamedTuple):
    """What a request may spend.

    Attributes:
        tool: Whose call it is.
        work: What it does, such as `search`.
        size: How large that is, in our own words.
        models: Specs of the models it calls.
        usd: The most it may cost, or None where a price is unknown.
        calls: The most calls it may make.
    """

    tool: str
    work: str
    size: str
    models: Sequence[str]
    usd: float | None
    calls: int

    @property
    def paid(self) -> list[str]:
        """The models that cost something, as far as anybody knows."""
        return [spec for spec in self.models if not _costs_nothing(spec)]

    def exceeds(self, usd: float) -> bool:
        """Whether it may spend more; where a price is unknown, calls tell."""
        if not self.paid:
            return False
        return self.calls > DEFAULT_CALLS if self.usd is None else self.usd > usd

    def __str__(self) -> str:
        if self.usd is None:
            return f"make up to {self.calls:,} calls whose cost is not known beforehand"
        return f"spend up to {self.usd:,.2f} US dollars"


class _Asked(BaseModel):
    """What a question leaves with the client, sealed, until its answer comes back with it."""

    ticket: str
    usd: float | None
    calls: int

    def covers(self, stake: Stake) -> bool:
        """Whether a word given to this question holds for that stake."""
        if stake.usd is None or self.usd is None:
            return stake.usd == self.usd and stake.calls <= self.calls
        return stake.usd <= self.usd


async def ask_user(
    context: AnyContext, stake: Stake, *, above: float, confirmed: bool
) -> InputRequiredResult | None:
    """Asks the user where that is needed; returns None once there is no obstacle.

    Args:
        context: The call.
        stake: What it may spend.
        above: US dollars that may be spent unasked.
        confirmed: Whether the caller says that the user agreed.

    Returns:
        A question to answer the call with, before anything is begun.

    Raises:
        InputError: The user did not agree, or must be asked by the caller.
    """
    if confirmed or not stake.exceeds(above):
        return None
    if not _can_ask(context):
        raise InputError(_ask_yourself(stake))
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return _round(context, stake)
    try:
        answer = await context.session.elicit_form(
            _question(stake), _FORM, related_request_id=context.request_id
        )
    except (MCPError, ValidationError):
        raise InputError(_ask_yourself(stake)) from None
    _require_yes(answer, stake)
    return None


def ticket_of(context: AnyContext) -> str | None:
    """Names the question that this call answers, or None.

    Whoever begins something under it does so once, however often the answer is delivered.
    """
    asked = _asked(context)
    return None if asked is None else asked.ticket


def _round(context: AnyContext, stake: Stake) -> InputRequiredResult | None:
    """One round of a call in several: the question, or None once it was answered with yes."""
    asked, answer = _asked(context), (context.input_responses or {}).get(_KEY)
    if asked is not None and answer is not None and asked.covers(stake):
        _require_yes(answer, stake)
        return None
    form = ElicitRequestFormParams(message=_question(stake), requested_schema=_FORM)
    left = _Asked(ticket=secrets.token_hex(16), usd=stake.usd, calls=stake.calls)
    return InputRequiredResult(
        input_requests={_KEY: ElicitRequest(params=form)}, request_state=left.model_dump_json()
    )


def _asked(context: AnyContext) -> _Asked | None:
    """What an earlier round left; the transport has made sure that it is ours and of this call."""
    if context.request_state is None:
        return None
    try:
        return _Asked.model_validate(json.loads(context.request_state))
    except ValueError:
        return None


def _require_yes(answer: object, stake: Stake) -> None:
    """Makes sure that the user agreed.

    Raises:
        InputError: They did not.
    """
    if (
        isinstance(answer, ElicitResult)
        and answer.action == "accept"
        and (answer.content or {}).get("agree") is True
    ):
        return
    raise InputError(
        f"The user did not agree that this {stake.work} may {stake}, so nothing was begun; ask "
        "what they want instead, such as a smaller `budget`."
    )


def _can_ask(context: AnyContext) -> bool:
    capabilities = context.client_capabilities
    asks = capabilities.elicitation if capabilities is not None else None
    if asks is None or (asks.form is None and asks.url is not None):
        return False
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS or context.session.can_send_request


def _question(stake: Stake) -> str:
    return f"May this {stake.work} {stake}? {_told(stake)}"


def _ask_yourself(stake: Stake) -> str:
    return (
        f"This {stake.work} may {stake}, which needs the user's word. Tell them so "
        f"({_told(stake)}); if they agree, call {stake.tool} again with the same arguments and "
        "confirmed=true, else with a smaller `budget`. Nothing was begun."
    )


def _told(stake: Stake) -> str:
    models = excerpt(", ".join(stake.paid), ERROR)
    return f"Models: {models}. Size: {stake.size}."


def _costs_nothing(spec: str) -> bool:
    return is_free(spec) or spec.startswith("scripted:")
