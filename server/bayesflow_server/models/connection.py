"""One endpoint's HTTP: its origin, its key, its one long-lived SDK client.

The SDK never holds the key. It writes requests with a stand-in, and the last thing before the wire,
`_leave`, writes the headers anew: the endpoint's own key, to the endpoint's own origin, and nothing
else, whatever the environment told the SDK to add. Redirects are not followed. A proxy of the
environment is used for https alone, where it sees no key, and never on this machine. Retries are
off: the gateway must see every 429. The registry owns the connections; models share them.
"""

import asyncio
import ipaddress
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from bayesflow_server.errors import ProviderError, ServerError
from bayesflow_server.models.endpoints import Api, Endpoint
from bayesflow_server.models.provider_http import BadRequest, Provider

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Request, Response

__all__ = ["STAND_IN", "Connection", "Dialled", "SdkClient", "SdkErrors"]

STAND_IN = "the-key-is-put-in-at-the-door"

_CALL_SECONDS = 120.0
_KEEP_ALIVE_SECONDS = 4.0  # less than the 5 s after which the server under vLLM hangs up
_SPARE_CONNECTIONS = 8
_ORIGINS: Mapping[Api, str] = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}
# In the places where the environment's proxies would stand.
_NO_PROXY: Mapping[str, None] = {"http://": None, "https://": None, "all://": None}
_KEPT_HEADERS = ("content-length", "accept-encoding", "anthropic-version")


class SdkClient(Protocol):
    """What is needed of either SDK's client."""

    async def close(self) -> None:
        """Closes the connections."""
        ...


ClientT = TypeVar("ClientT", bound=SdkClient)


class SdkErrors(NamedTuple):
    """The errors of an SDK, as far as they are told apart here.

    Attributes:
        timeout: No answer in time.
        connection: No answer.
        status: An answer that is not a success.
        root: Of these and of all others that concern a call.
    """

    timeout: type[Exception]
    connection: type[Exception]
    status: type[Exception]
    root: type[Exception]


@dataclass(frozen=True, slots=True)
class Dialled(Generic[ClientT]):
    """An SDK's client and what it raises."""

    client: ClientT
    errors: SdkErrors


class _StatusError(Protocol):
    status_code: int
    body: object

    @property
    def response(self) -> "Response": ...


class Connection(Generic[ClientT]):
    """An endpoint that can be asked; opened on the first call, closed by its owner."""

    def __init__(
        self,
        endpoint: Endpoint,
        dial: "Callable[[Connection[ClientT]], Dialled[ClientT]]",
        *,
        environment: Mapping[str, str] | None = None,
        http_client: "AsyncClient | None" = None,
        call_seconds: float | None = None,
    ) -> None:
        """Prepares the connection; nothing is imported, read or opened yet.

        Args:
            endpoint: Where to.
            dial: Builds the SDK's client, with `http`, `base_url` and the stand-in for a key.
            environment: Where the key is; the process's own if None.
            http_client: In place of the SDK's own transport; closed with this connection.
            call_seconds: Deadline of one call; the endpoint's if None.
        """
        self.endpoint = endpoint
        self.provider = Provider(endpoint.title, endpoint.key_variable)
        self.base_url = endpoint.base_url or _ORIGINS[endpoint.api]
        self.call_seconds = call_seconds or endpoint.pace.call_seconds or _CALL_SECONDS
        self._dial = dial
        self._environment = os.environ if environment is None else environment
        self._http_client = http_client
        self._key: str | None = None
        self._shown_key: re.Pattern[str] | None = None
        self._dialled: Dialled[ClientT] | None = None

    async def call(self, model: str, send: Callable[[ClientT], Awaitable[object]]) -> object:
        """Sends one request and waits for its answer, or a `BadRequest`.

        Raises:
            ProviderError: Rate limit, server error, time-out, no network, a redirect.
            ModelUnavailableError: No key, a refused key, no credit, or an unknown model.
        """
        dialled = self._connected()
        import aiohttp  # heavy: on the first call, and by now the SDK has done so
        import httpx2

        # The error is raised outside `except`: the SDK's own, with what it carries, stays behind.
        try:
            async with asyncio.timeout(self.call_seconds):
                return await send(dialled.client)
        except TimeoutError:
            failed: BadRequest | ServerError = self.provider.timed_out(model, self.call_seconds)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            failed = self.provider.unreadable(model)
        except UnicodeEncodeError:
            failed = ProviderError(
                f"A prompt for {model} holds half a character (a lone surrogate), which cannot be "
                "sent.",
                transient=False,
            )
        except (OSError, aiohttp.ClientError, httpx2.HTTPError):  # not every one is wrapped
            failed = self.provider.unreachable(model)
        except dialled.errors.root as error:
            failed = self._failure(error, dialled.errors, model)
        if isinstance(failed, BadRequest):
            return failed
        raise failed

    def without_key(self, text: str) -> str:
        """The text, should it hold the key, plain or escaped, with the key cut out."""
        if self._shown_key is None:
            return text
        return self._shown_key.sub("<key>", text)

    def http(self, make: "Callable[..., AsyncClient]") -> "AsyncClient":
        """The HTTP client for the SDK: through the door, following no redirect.

        Args:
            make: The SDK's own class of clients, over aiohttp.
        """
        client = self._http_client
        if client is None:
            from httpx2 import Limits  # heavy: on the first call

            connections = self.endpoint.concurrency + _SPARE_CONNECTIONS
            origin = _origin(self.base_url)
            try:
                client = make(
                    limits=Limits(
                        max_connections=connections,
                        max_keepalive_connections=connections,
                        keepalive_expiry=_KEEP_ALIVE_SECONDS,
                    ),
                    trust_env=origin.scheme == "https",
                    mounts=_NO_PROXY if _is_here(origin.host) else None,
                )
            except ValueError:
                raise self.provider.no_proxy() from None
        client.follow_redirects = False
        client.event_hooks = {"request": [self._leave], "response": [self._enter]}
        return client

    async def aclose(self) -> None:
        """Closes the connections. Safe to call twice."""
        dialled, self._dialled = self._dialled, None
        if dialled is not None:
            await dialled.client.close()

    def _connected(self) -> Dialled[ClientT]:
        if self._dialled is None:
            self._key = self.provider.key(self._environment)
            self._shown_key = None if self._key is None else _shapes(self._key)
            self._dialled = self._dial(self)
        return self._dialled

    async def _leave(self, request: "Request") -> None:
        if _origin(str(request.url)) != _origin(self.base_url):
            raise ProviderError(
                f"A call meant for {self.provider.title} was to leave for another place; it was "
                "stopped. Report this.",
                transient=False,
            )
        from httpx2 import Headers  # heavy, and imported long since: a request came

        kept = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
        key = {} if self._key is None else {"authorization": f"Bearer {self._key}"}
        # A new object: to clear the old one takes as long as the rest of the door, squared.
        request.headers = Headers(
            {
                "host": request.url.netloc.decode("ascii"),
                "accept": "application/json",
                "content-type": "application/json",
                "user-agent": "bayesflow-mcp",
            }
            | kept
            | key
        )

    async def _enter(self, response: "Response") -> None:
        """The SDK may log a response's headers; a provider may repeat the key in them."""
        for name, value in response.headers.items():
            response.headers[name] = self.without_key(value)

    def _failure(
        self, error: Exception, errors: SdkErrors, model: str
    ) -> "BadRequest | ServerError":
        if isinstance(error.__cause__, ServerError):  # stopped at the door
            return error.__cause__
        if isinstance(error, errors.timeout) and not _hung_up(error):
            return self.provider.timed_out(model, self.call_seconds)
        if isinstance(error, errors.connection):
            return self.provider.unreachable(model)
        if not isinstance(error, errors.status):
            return self.provider.unreadable(model)
        answer = cast(_StatusError, error)
        return self.provider.refused(
            answer.status_code,
            answer.body,
            answer.response.headers,
            model=model,
            clean=self.without_key,
        )


def _shapes(key: str) -> re.Pattern[str]:
    """The key as it may stand in a text, in a URL or in JSON."""
    return re.compile("".join(map(_shape, key)))


def _shape(mark: str) -> str:
    if mark.isalnum():
        return mark
    return rf"(?i:\\?{re.escape(mark)}|%{ord(mark):02x}|\\u{ord(mark):04x})"


def _hung_up(error: BaseException) -> bool:
    """Whether what an SDK calls a time-out is a connection that was refused or broke off."""
    import aiohttp  # by now the SDK has imported it

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectionError):
            return not isinstance(cause, TimeoutError)
        cause = cause.__cause__
    return False


def _is_here(host: str | None) -> bool:
    """Whether the host is this machine."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


class _Origin(NamedTuple):
    scheme: str
    host: str | None
    port: int | None


def _origin(url: str) -> _Origin:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return _Origin(parts.scheme, parts.hostname, parts.port or default)
