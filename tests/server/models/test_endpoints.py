import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.errors import InputError
from bayesflow_server.models.chat import Pace
from bayesflow_server.models.endpoints import (
    BUILT_IN_ENDPOINTS,
    Endpoint,
    Price,
    parse_endpoint,
    parse_endpoints,
)

URL = "http://localhost:8000/v1"


def test_a_name_and_a_url_make_an_endpoint_without_a_key() -> None:
    assert parse_endpoint(f"lab={URL}") == Endpoint("lab", base_url=URL)


def test_every_option_is_read() -> None:
    text = (
        "my-lab_2=https://api.example.com/,key=LAB_KEY,api=anthropic,concurrency=8,rpm=60,tpm=1e6,"
        "price_in=0.25,price_out=0"
    )
    assert parse_endpoint(text) == Endpoint(
        "my-lab_2",
        api="anthropic",
        base_url="https://api.example.com",
        key_variable="LAB_KEY",
        concurrency=8,
        pace=Pace(60, 1e6),
        price=Price(0.25, 0.0),
    )


def test_the_built_in_ones_can_be_adjusted_but_for_their_url() -> None:
    endpoint = parse_endpoint("anthropic,rpm=50,concurrency=4")
    assert endpoint == Endpoint(
        "anthropic",
        api="anthropic",
        key_variable="ANTHROPIC_API_KEY",
        concurrency=4,
        pace=Pace(50, None),
    )
    assert parse_endpoint("openai,key=OTHER_KEY").key_variable == "OTHER_KEY"


def test_the_built_in_ones_are_always_there() -> None:
    assert parse_endpoints([]) == BUILT_IN_ENDPOINTS
    endpoints = parse_endpoints([f"lab={URL}", "openai,rpm=9"])
    assert list(endpoints) == ["anthropic", "openai", "lab"]
    assert endpoints["openai"].pace == Pace(9, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is written NAME=URL"),
        (URL, "is written NAME=URL"),
        (f"Lab={URL}", "is written NAME=URL"),
        (f"{'x' * 41}={URL}", "is written NAME=URL"),
        (f"la:b={URL}", "is written NAME=URL"),
        ("lab", "has no URL"),
        ("lab,rpm=5", "has no URL"),
        (f"openai={URL}", "built in and keeps its URL"),
        (f"anthropic={URL}", "built in and keeps its URL"),
        ("anthropic,api=openai", "built in and keeps its URL and API"),
        (f"local={URL}", "another meaning"),
        (f"scripted={URL}", "another meaning"),
        (f"client={URL}", "another meaning"),
        (f"grammar={URL}", "another meaning"),
        ("lab=ftp://host/v1", "must be like https://"),
        ("lab=localhost:8000", "must be like https://"),
        ("lab=http://", "must be like https://"),
        ("lab=http://host:99999/", "must be like https://"),
        ("lab=http://host:x/", "must be like https://"),
        ("lab=http://[::1/", "must be like https://"),
        ("lab=http://host/v1?a=b", "must be like https://"),
        ("lab=http://host/v1#a", "must be like https://"),
        ("lab=http://ho\tst/v1", "must be like https://"),
        ("lab=http://h\u00f6st/v1", "must be like https://"),
        ("lab=http://host\\@other/v1", "must be like https://"),
        ("lab=http://sk-secret@host/v1", "a user or a key in it"),
        ("lab=http://a:sk-secret@host/v1", "a user or a key in it"),
        (f"lab={URL},sk-secret", "not one of key, api"),
        (f"lab={URL},colour=sk-secret", "not one of key, api"),
        (f"lab={URL},rpm=5,rpm=6", "rpm twice"),
        (f"lab={URL},key=sk-secret", "never the key"),
        (f"lab={URL},key=", "never the key"),
        (f"lab={URL},api=gemini", "openai or anthropic"),
        (f"lab={URL},concurrency=0", "whole number from 1"),
        (f"lab={URL},concurrency=1001", "whole number from 1"),
        (f"lab={URL},concurrency=\u00b2", "whole number from 1"),
        (f"lab={URL},rpm=0", "above 0"),
        (f"lab={URL},rpm=inf", "above 0"),
        (f"lab={URL},seconds=0.5", "from 1 to 3600"),
        (f"lab={URL},seconds=forever", "from 1 to 3600"),
        (f"lab={URL},tpm=nan", "above 0"),
        (f"lab={URL},tpm=many", "above 0"),
        (f"lab={URL},price_in=-1,price_out=1", "0 or more"),
        (f"lab={URL},price_in=1", "together"),
        (f"lab={URL},price_out=1", "together"),
    ],
)
def test_a_wrong_endpoint_is_refused_in_one_sentence_that_repeats_no_key(
    text: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_endpoint(text)
    assert says in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_endpoints_of_one_name_are_refused() -> None:
    for texts in ([f"lab={URL}", f"lab={URL}"], ["openai,rpm=1", "openai,rpm=2"]):
        with pytest.raises(InputError, match="twice"):
            parse_endpoints(texts)


@given(st.text())
def test_any_text_is_an_endpoint_or_an_input_error(text: str) -> None:
    for given_text in (text, f"lab={text}", f"lab={URL},{text}", f"lab={URL},rpm={text}"):
        with contextlib.suppress(InputError):
            parse_endpoint(given_text)


def test_the_longest_call_is_the_endpoint_s() -> None:
    assert parse_endpoint(f"lab={URL},seconds=300").pace == Pace(call_seconds=300)
    assert parse_endpoint(f"lab={URL}").pace == Pace()
