"""A real model behind a real server on loopback, real rows, and the paper's own workflows."""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bayesflow_sandbox.policy import check_workflow
from bayesflow_server.evaluation.problem_tests import CodeFields
from bayesflow_server.export.script import ExportSettings, script_of
from bayesflow_server.models.weights import cache_folder, find_weights
from bayesflow_server.runs.exported import workflow_in
from fakes.exportable import workflow
from fakes.exported import QUESTIONS, Houses, Provider
from fakes.provider_wires import HttpServer

if TYPE_CHECKING:
    from xllamacpp import CommonParams

FOLDER = Path(os.environ.get("BAYESFLOW_TEST_DATA", ""))
needs_data = pytest.mark.skipif(
    "BAYESFLOW_TEST_DATA" not in os.environ or not FOLDER.is_dir(),
    reason="BAYESFLOW_TEST_DATA names no folder",
)
ASK = workflow(
    """
shots = [
    {"role": "user", "content": "Ann has 3 apples and buys 4 more. How many has she?"},
    {"role": "assistant", "content": "3 + 4 = 7"},
    {"role": "user", "content": problem},
]
texts = await self.llm.call_llm(shots, 0, stop=["\\n"], max_tokens=24, instructions="Add.")
numbers = re.findall(r"-?[0-9.]+", texts[0])
return numbers[-1] if numbers else texts[0], 0.0
""",
    "import re\n",
)


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    """A server with one slot; nothing that was asked before can change an answer."""
    weights = find_weights("smollm2", cache_folder())
    if weights is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    xllamacpp = pytest.importorskip("xllamacpp")
    params: CommonParams = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    params.cache_prompt = False
    params.ctx_shift = False
    params.prefill_assistant = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    yield str(getattr(server, "listening_address"))  # noqa: B009 # our stub does not have it
    del server


@pytest.mark.slow
@needs_data
async def test_a_real_model_scores_the_same_inside_and_outside(
    address: str, tmp_path: Path
) -> None:
    lines = (FOLDER / "gsm8k.jsonl").read_text("utf-8").splitlines()[:4]
    questions = [str(json.loads(line)["input"]) for line in lines]
    houses = Houses(tmp_path, Provider(HttpServer(address)))
    inside = await houses.inside(ASK, "openai", questions)
    assert [line.failed for line in inside] == [False] * 4
    assert await houses.outside(ASK, "openai", questions) == inside


@needs_data
@pytest.mark.parametrize("name", ["drop", "gpqa", "gsm8k", "hotpotqa", "math", "mbpp", "mmlu_pro"])
def test_the_papers_workflows_are_exported(name: str) -> None:
    source = (FOLDER / "appendix_h" / f"{name}.py").read_text("utf-8")
    assert check_workflow(source, exec_code=True) is None
    settings = ExportSettings(
        "openai:gpt-4o-mini", "openai", code=CodeFields("entry_point", None, "tests", None)
    )
    text = script_of(source, settings)
    compile(text, "workflow.py", "exec")
    assert workflow_in(text) == source


@needs_data
@pytest.mark.parametrize("name", ["drop", "gpqa", "gsm8k", "hotpotqa", "math", "mmlu_pro"])
async def test_the_papers_workflows_ask_and_answer_as_inside(houses: Houses, name: str) -> None:
    source = (FOLDER / "appendix_h" / f"{name}.py").read_text("utf-8")
    inside = await houses.inside(source, "openai", QUESTIONS[:3])
    asked = houses.provider.asked()
    assert asked
    assert await houses.outside(source, "openai", QUESTIONS[:3]) == inside
    assert houses.provider.asked() == asked
