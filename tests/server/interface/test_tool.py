"""What the tools add to the SDK's: plain errors, schemas in few words, lenient JSON."""

import json
import logging
from pathlib import Path

import pytest
from mcp import Client
from pydantic import JsonValue

from bayesflow_server.interface.compact_schema import compact, compact_result
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.runs.answering import AnswerService
from bayesflow_server.runs.evaluations import EvaluationService
from bayesflow_server.runs.proposal_service import ProposalService
from bayesflow_server.runs.service import RunService
from fakes.mcp_sessions import call, refusal, task_arguments


class BrokenBackend:
    """A defect of ours, with something in its text that is nobody's business."""

    confirm_above = 10.0

    async def runs(self) -> RunService:
        raise RuntimeError("the key is hunter2")

    async def evaluations(self) -> EvaluationService:
        raise RuntimeError("the key is hunter2")

    async def answers(self) -> AnswerService:
        raise RuntimeError("the key is hunter2")

    async def proposals(self) -> ProposalService:
        raise RuntimeError("the key is hunter2")


async def test_a_defect_keeps_its_text_on_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with Client(BayesFlowServer(BrokenBackend())) as client:
        with caplog.at_level(logging.ERROR):
            sentence = await refusal(client, "list_runs", {})
    assert sentence.startswith("list_runs failed inside the server")
    assert "hunter2" not in sentence
    assert "hunter2" in caplog.text


async def test_a_refusal_is_one_line_whatever_it_quotes(client: Client) -> None:
    for tool, arguments in (
        ("list_runs", {"a\nb": 1}),
        ("get_run", {"run_id": "a\nb"}),
        ("resume_run", {"run_id": "a", "budget": {"a\nb": 1}}),
    ):
        assert "a" in await refusal(client, tool, arguments)


async def test_arguments_may_come_as_json_text(client: Client) -> None:
    """Some hosts write objects and lists as strings."""
    rows = [{"input": f"{number} plus 1?", "target": str(number + 1)} for number in range(20)]
    request = task_arguments([]) | {
        "examples": json.dumps(rows),
        "options": json.dumps({"particles": 2, "rounds": 1}),
        "scorer": json.dumps({"kind": "numeric", "tolerance": 0.1}),
        "budget": json.dumps({"calls": 500}),
    }
    started = await call(client, "start_bayesflow_run", request)
    resolved = started["resolved"]
    assert isinstance(resolved, dict)
    assert resolved["scorer"] == {"kind": "numeric", "tolerance": 0.1}
    assert isinstance(resolved["budget"], dict)
    assert resolved["budget"]["calls"] == 500


async def test_an_object_of_a_short_schema_is_held_to_the_whole(client: Client, rows: Path) -> None:
    """The tool list has the schemas of options and budgets once, at start_bayesflow_run."""
    task = task_arguments(rows)
    for tool, arguments, sentence in (
        ("check_task", task | {"options": {"particels": 1}}, "did you mean 'particles'?"),
        ("check_task", task | {"budget": {"euros": 1}}, "it takes usd, calls, tokens, minutes."),
        ("resume_run", {"run_id": "run_1", "budget": {"usd": -1}}, "`budget.usd` must be greater"),
    ):
        assert sentence in await refusal(client, tool, arguments)


async def test_a_scorer_is_guessed_and_the_guess_is_told(client: Client, rows: Path) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows, scorer="auto"))
    resolved = started["resolved"]
    assert isinstance(resolved, dict)
    assert isinstance(resolved["guesses"], list)
    assert any("'numeric' was taken" in str(guess) for guess in resolved["guesses"])


def test_a_schema_loses_only_what_says_nothing() -> None:
    named: JsonValue = {"title": "A", "type": "object", "properties": {"a": {"type": "integer"}}}
    schema: dict[str, JsonValue] = {
        "title": "Arguments",
        "description": "First.\nStill first.\n\nSecond.",
        "$defs": {"Once": named, "Twice": named, "Any": {}},
        "properties": {
            "title": {"title": "Title", "type": "string", "default": None},
            "discriminator": {"default": 0, "anyOf": [{"title": "A", "const": 1}]},
            "number": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]},
            "word": {"anyOf": [{"enum": ["a"], "type": "string"}, {"type": "null"}]},
            "once": {"anyOf": [{"$ref": "#/$defs/Once"}, {"type": "null"}], "description": "O."},
            "twice": {"$ref": "#/$defs/Twice"},
            "again": {"anyOf": [{"$ref": "#/$defs/Twice"}, {"type": "null"}]},
            "any": {"items": {"$ref": "#/$defs/Any"}, "type": "array"},
        },
        "required": ["twice"],
    }
    shared: JsonValue = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert compact(schema) == {
        "$defs": {"Twice": shared},
        "description": "First. Still first.",
        "properties": {
            "title": {"type": "string"},
            "discriminator": {"default": 0, "anyOf": [{"const": 1}]},
            "number": {"type": ["number", "null"], "minimum": 0},
            "word": {"type": ["string", "null"], "enum": ["a", None]},
            "once": {
                "type": ["object", "null"],
                "properties": {"a": {"type": "integer"}},
                "description": "O.",
            },
            "twice": {"$ref": "#/$defs/Twice"},
            "again": {"anyOf": [{"$ref": "#/$defs/Twice"}, {"type": "null"}]},
            "any": {"items": {}, "type": "array"},
        },
        "required": ["twice"],
    }


def test_the_schema_of_a_result_is_loose() -> None:
    number: JsonValue = {"type": "number", "minimum": 0, "description": "Seconds."}
    word: JsonValue = {"enum": ["a", "b"], "type": "string"}
    part: JsonValue = {"properties": {"a": number}, "required": ["a"], "type": "object"}
    schema: dict[str, JsonValue] = {
        "description": "A result.",
        "properties": {
            "maximum": {"anyOf": [number, {"type": "null"}]},
            "word": {"anyOf": [word, {"type": "null"}]},
            "several": {"items": number, "type": "array"},
            "part": part,
        },
        "required": ["part"],
    }
    loose: JsonValue = {"type": "number", "description": "Seconds."}
    assert compact_result(schema) == {
        "properties": {
            "maximum": {"type": ["number", "null"], "description": "Seconds."},
            "word": {"enum": ["a", "b", None]},
            "several": {"items": loose, "type": "array"},
            "part": {"properties": {"a": loose}, "type": "object"},
        },
        "required": ["part"],
    }
