"""What an exported file is made of, and how its workflow is taken out again."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesflow_sandbox.policy import check_workflow
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.problem_tests import CodeFields
from bayesflow_server.export.script import ExportSettings, ScoreLine, script_of
from bayesflow_server.models import wordings
from bayesflow_server.models.endpoints import Price
from bayesflow_server.runs.exported import workflow_in
from fakes.exportable import WORKFLOWS, workflow

ECHO = workflow("return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0")
CHAT = ExportSettings("lab:m-1", "openai")
CODE = workflow(
    "told = exec_code('def add(a, b): return a + b', entry_point)\nreturn str(told), 0.0"
).replace("self, problem", "self, problem, entry_point")
RANDOM = workflow("return random.choice('abc'), 0.0", "import random\n")
TIERED = workflow("return (await self.llm.call_llm([problem], tier='strong'))[0]")
SETTINGS = {
    "openai": (
        ECHO,
        ExportSettings(
            "openai:gpt-5",
            "openai",
            "wf_1",
            "run_1",
            'Say """hi""" \\ to %(prog)s\nand \u202e nobody',
            ScoreLine(0.5, 0.4, 0.6, 30),
            price=Price(0.25, 2.0),
        ),
    ),
    "anthropic": (ECHO, ExportSettings("anthropic:claude", "anthropic", task="Add. " * 200)),
    "endpoint": (RANDOM, CHAT),
    "local": (ECHO, ExportSettings("local:smollm2", "openai", fields={"q": "x", "id": "n"})),
    "tests": (
        CODE,
        ExportSettings("openai:m", "openai", code=CodeFields("entry_point", None, "tests", None)),
    ),
    "tiers": (TIERED, ExportSettings("lab:m", "openai", tiers={"strong": "lab:big"})),
}
ODD = (
    "# --- the workflow: begin ---\n# --- the workflow: end ---\n",
    'WORKFLOW = r"""\n"""\n',
    "x = '''a\\'b'''\ny = \"\"\"b\"\"\"\n",
    "x = 'tab\there' + '\x0c\u202e\ufeff\u2028\\\\'\r\n",
    "\n\n",
    "from __future__ import annotations\n",
    "# \U0001f600 é \\\\ \\x41 \\u0041 \\N{DIGIT ONE}\n",
)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_is_well_formed_and_needs_one_sdk_only(name: str, tmp_path: Path) -> None:
    source, settings = SETTINGS[name]
    text = script_of(source, settings)
    path = tmp_path / "workflow.py"
    path.write_text(text, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--isolated", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    tree = ast.parse(text)
    assert imported(tree) - set(sys.stdlib_module_names) == {settings.api} | (
        {"bayesflow_sandbox", "bayesflow_server"} if name == "tests" else set()
    )
    other = "anthropic" if settings.api == "openai" else "openai"
    assert not re.search(rf"\b{other}\.|import {other}|{other.upper()}", text)
    assert "://" not in text.replace("http://127.0.0.1:8080/v1", "")
    assert workflow_in(text) == source
    assert check_workflow(source, exec_code=name == "tests") is None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_defines_nothing_that_it_does_not_use(name: str) -> None:
    source, settings = SETTINGS[name]
    text = script_of(source, settings)
    words = Counter(re.findall(r"\w+", text.replace(source, "")))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = [node.name]
            case ast.Assign(targets=[ast.Name(id=bound)]):
                names = [bound]
            case _:
                names = []
        for bound in names:
            unused = words[bound] < 2 and not bound.startswith("__") and bound != "exec_code"
            assert not unused or bound == "get_usage_summary", bound


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("last", ["\n", "", "  # '", '  # "', "  # \\"])
def test_any_source_comes_out_byte_for_byte(odd: str, last: str) -> None:
    source = odd + ECHO.removesuffix("\n") + last
    assert check_workflow(source) is None
    text = script_of(source, CHAT)
    assert workflow_in(text) == source
    assert workflow_in(text.replace("\n", "\r\n")) == source
    assert "\u202e" not in text


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_comment_comes_out_byte_for_byte(words: str) -> None:
    comment = "".join(f"# {line}\n" for line in re.split("[\r\n\x0c]", words))
    source = comment + ECHO
    if check_workflow(source) is None:
        assert workflow_in(script_of(source, CHAT)) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        ECHO,
        "# --- the workflow: begin ---\nWORKFLOW = 1\n# --- the workflow: end ---\n",
        "# --- the workflow: begin ---\nWORKFLOW = (\n",
        "# --- the workflow: begin ---\n\nWORKFLOW = 'x'\n# --- the workflow: end ---\n",
        "# --- the workflow: begin ---\nWORKFLOW = 'x'\n",
        "# --- the workflow: begin ---\n" + "(" * 5_000,
        "# --- the workflow: begin ---\n\0",
    ],
)
def test_other_text_holds_no_workflow(text: str) -> None:
    assert workflow_in(text) is None


def test_a_workflow_that_its_user_changed_comes_out_as_it_is_now() -> None:
    text = script_of(ECHO, CHAT).replace("# Step 1: Only", "# Step 1: Changed")
    assert workflow_in(text) == ECHO.replace("Only", "Changed")


@pytest.mark.parametrize("bad", ["import os\n" + ECHO, "def f(: pass", CODE, ECHO + "\0", "\ud800"])
def test_a_workflow_that_breaks_the_policy_is_not_exported(bad: str) -> None:
    with pytest.raises(InputError, match="policy"):
        script_of(bad, CHAT)


def test_a_tier_at_another_provider_is_refused_only_where_it_may_be_called() -> None:
    settings = ExportSettings("lab:m", "openai", tiers={"strong": "anthropic:claude"})
    with pytest.raises(InputError, match="one provider only"):
        script_of(TIERED, settings)
    assert "claude" not in script_of(ECHO, settings)


def test_the_first_lines_say_what_it_is_and_what_is_data_stays_harmless() -> None:
    source, settings = SETTINGS["openai"]
    said = ast.get_docstring(ast.parse(script_of(source, settings))) or ""
    words = " ".join(said.split())
    assert "workflow wf_1 of the run run_1" in words
    assert "30 test rows that the search never saw: 0.500" in words
    assert "from 0.400 to 0.600" in words
    assert "no sandbox" in words
    assert "Say '''hi''' / to % (prog)s and nobody" in words
    assert "no test score" in script_of(ECHO, CHAT)


def test_wordings_of_refusals_are_the_servers_own() -> None:
    text = script_of(ECHO, CHAT)
    for name in ("OVERFLOW", "REFUSAL"):
        [call] = [
            node.value
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
        ]
        assert isinstance(call, ast.Call)
        known: re.Pattern[str] = getattr(wordings, f"_{name}")
        assert ast.literal_eval(call.args[0]) == known.pattern


@pytest.mark.parametrize(("name", "tokens"), [("local", 512), ("openai", 4096), ("endpoint", 4096)])
def test_an_answer_may_be_as_long_as_in_the_run(name: str, tokens: int) -> None:
    assert f"\nDEFAULT_MAX_TOKENS = {tokens}\n" in script_of(*SETTINGS[name])


def test_settings_with_quotes_are_literals() -> None:
    model = 'lab:it\'s "m" é'
    tree = ast.parse(script_of(ECHO, ExportSettings(model, "openai")))
    [value] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL"
    ]
    assert value == json.loads(json.dumps(model.partition(":")[2]))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_sample_is_exported(name: str) -> None:
    assert workflow_in(script_of(WORKFLOWS[name], CHAT)) == WORKFLOWS[name]


def imported(tree: ast.Module) -> set[str]:
    """The packages that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
