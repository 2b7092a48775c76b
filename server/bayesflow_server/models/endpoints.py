"""The places models are asked at, as the person who starts the server named them.

    NAME=URL[,option=value...]   e.g. lab=http://localhost:8000/v1,key=LAB_KEY,rpm=600
    NAME,option=value...         for the built-in `anthropic` and `openai` only: not their URL

Options: ``key`` (the environment variable that holds the key), ``api`` (openai or anthropic),
``concurrency``, ``rpm`` and ``tpm`` (calls and tokens a minute), ``seconds`` (the longest a call
may take), ``price_in`` and ``price_out`` (USD per million tokens). No message repeats what was
written: a key may stand in it by mistake.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit

from bayesflow_server.errors import InputError
from bayesflow_server.models.chat import Pace

__all__ = [
    "BUILT_IN_ENDPOINTS",
    "Api",
    "Endpoint",
    "Price",
    "parse_endpoint",
    "parse_endpoints",
]

Api = Literal["openai", "anthropic"]
_LONGEST_CALL = 3600

_MOST_CONCURRENCY = 1000
_NAME = re.compile(r"[a-z0-9_-]{1,40}")
# Upper case only: a key that stands where its variable's name should is then no such name.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_TAKEN = frozenset({"local", "scripted", "client", "grammar"})
_FORM = "NAME=URL[,option=value...]"


class Price(NamedTuple):
    """What tokens cost, in USD per million."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where models are asked, and how.

    Attributes:
        name: What stands before the colon of a model's spec.
        api: Which of the two wires is spoken.
        base_url: The URL that the API's paths are joined to; None: the built-in provider's own.
        key_variable: The environment variable that holds the key; None: no key is sent.
        concurrency: The most calls worth having in flight.
        pace: What a minute may hold.
        price: What its tokens cost; None: to be looked up, or unknown.
    """

    name: str
    api: Api = "openai"
    base_url: str | None = None
    key_variable: str | None = None
    concurrency: int = 64
    pace: Pace = field(default=Pace())
    price: Price | None = None

    @property
    def title(self) -> str:
        """The name for people."""
        built_in = {"anthropic": "Anthropic", "openai": "OpenAI"}
        return built_in.get(self.name, f"The endpoint '{self.name}'")


BUILT_IN_ENDPOINTS: Mapping[str, Endpoint] = {
    "anthropic": Endpoint("anthropic", api="anthropic", key_variable="ANTHROPIC_API_KEY"),
    "openai": Endpoint("openai", api="openai", key_variable="OPENAI_API_KEY"),
}


def parse_endpoints(texts: Iterable[str]) -> Mapping[str, Endpoint]:
    """The built-in endpoints and those of the texts, by name.

    Raises:
        InputError: A text is wrong, or two have the same name.
    """
    given: dict[str, Endpoint] = {}
    for text in texts:
        endpoint = parse_endpoint(text)
        if endpoint.name in given:
            raise InputError(f"The endpoint '{endpoint.name}' is given twice; leave one out.")
        given[endpoint.name] = endpoint
    return {**BUILT_IN_ENDPOINTS, **given}


def parse_endpoint(text: str) -> Endpoint:
    """Reads one endpoint.

    Raises:
        InputError: With one sentence that says what is wrong and what would be right.
    """
    head, *pieces = text.strip().split(",")
    name, has_url, url = head.partition("=")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"An endpoint is written {_FORM}; its name takes a-z, 0-9, _ and -, 40 at most."
        )
    if name in _TAKEN:
        raise InputError(f"No endpoint can be called '{name}': the name has another meaning here.")
    options = _options(name, pieces)
    built_in = BUILT_IN_ENDPOINTS.get(name)
    if built_in is not None:
        if has_url or "api" in options:
            raise InputError(
                f"The endpoint '{name}' is built in and keeps its URL and API; choose another name."
            )
        return _endpoint(name, options, built_in)
    if not has_url:
        raise InputError(f"The endpoint '{name}' has no URL: write {_FORM}.")
    return _endpoint(name, options, Endpoint(name, base_url=_checked_url(name, url)))


def _options(name: str, pieces: Iterable[str]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for piece in pieces:
        option, equals, value = piece.partition("=")
        if option not in _READERS or not equals:
            known = ", ".join(_READERS)
            raise InputError(
                f"The endpoint '{name}' has an option that is not one of {known} (as option=value)."
            )
        if option in options:
            raise InputError(f"The endpoint '{name}' has the option {option} twice.")
        options[option] = value
    return options


def _endpoint(name: str, options: Mapping[str, str], start: Endpoint) -> Endpoint:
    read: dict[str, str | float] = {}
    for option, value in options.items():
        try:
            read[option] = _READERS[option](value)
        except ValueError as error:
            raise InputError(f"The endpoint '{name}': {option} takes {error}.") from None
    if ("price_in" in read) != ("price_out" in read):
        raise InputError(f"The endpoint '{name}' needs price_in and price_out together.")
    priced = "price_in" in read
    return Endpoint(
        name,
        api=cast(Api, read.get("api", start.api)),
        base_url=start.base_url,
        key_variable=cast(str | None, read.get("key", start.key_variable)),
        concurrency=int(read.get("concurrency", start.concurrency)),
        pace=Pace(*(cast(float | None, read.get(name)) for name in ("rpm", "tpm", "seconds"))),
        price=Price(float(read["price_in"]), float(read["price_out"])) if priced else None,
    )


def _checked_url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    else:
        if parts.username is not None and "\\" not in url:
            raise InputError(
                f"The URL of the endpoint '{name}' has a user or a key in it; set the key in an "
                "environment variable and give that variable's name as key=VARIABLE."
            )
    if not good or re.search(r"[^!-~]|[\\?#@]", url):
        raise InputError(
            f"The URL of the endpoint '{name}' must be like https://host[:port][/path], without a "
            "user, a query or a fragment."
        )
    return url.rstrip("/")


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("the name of an environment variable such as LAB_KEY, never the key")
    return value


def _api(value: str) -> str:
    if value not in ("openai", "anthropic"):
        raise ValueError("openai or anthropic")
    return value


def _concurrency(value: str) -> float:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= _MOST_CONCURRENCY):
        raise ValueError(f"a whole number from 1 to {_MOST_CONCURRENCY}")
    return int(value)


def _rate(value: str) -> float:
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError("a number above 0")
    return number


def _seconds(value: str) -> float:
    number = _number(value)
    if not 1 <= number <= _LONGEST_CALL:
        raise ValueError(f"seconds from 1 to {_LONGEST_CALL}")
    return number


def _price(value: str) -> float:
    number = _number(value)
    if not 0 <= number < math.inf:
        raise ValueError("USD per million tokens, 0 or more")
    return number


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


_READERS: Mapping[str, Callable[[str], str | float]] = {
    "key": _variable,
    "api": _api,
    "concurrency": _concurrency,
    "rpm": _rate,
    "tpm": _rate,
    "seconds": _seconds,
    "price_in": _price,
    "price_out": _price,
}
