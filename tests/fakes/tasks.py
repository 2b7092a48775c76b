"""A small task (additions), a grammar of 36 workflows for it, and a model's rule to answer it.

The workflows differ in how often they are right, some fail, some sample above temperature 0: a
search over them touches everything that a real one does, in a fraction of a second.
"""

import hashlib
import re
from dataclasses import replace
from typing import Any

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Workflow
from bayesflow_server.evaluation.task import Task, load_task
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.request import RunRequest
from fakes.models import SPEC

__all__ = ["GRAMMAR", "OPTIONS", "addition_task", "answer_addition", "request", "workflow"]

GRAMMAR = '''
title = "additions"
start = "write"

[[production]]
state = "write"
title = "Style <<k>>"
each = { k = [1, 2, 3, 4] }
next = "ask"
code = """
text = "style<<k>> " + problem
"""

[[production]]
state = "ask"
title = "Ask once"
next = "answer"
code = """
out = (await self.llm.call_llm(messages=[text], temperature=0.0))[0]
"""

[[production]]
state = "ask"
title = "Ask twice"
next = "answer"
code = """
both = await self.llm.call_llm(messages=[text], temperature=0.8, num_of_response=2)
out = both[1]
"""

[[production]]
state = "ask"
title = "Ask and ask again"
next = "answer"
code = """
out = (await self.llm.call_llm(messages=[text], temperature=0.0))[0]
out = (await self.llm.call_llm(messages=[text + " " + out + " 0"], temperature=0.0))[0]
"""

[[production]]
state = "answer"
title = "Answer"
weight = 3
code = """
return out, 0.0
"""

[[production]]
state = "answer"
title = "Cut the answer"
weight = 1
code = """
return out[1:], 0.0
"""

[[production]]
state = "answer"
title = "Fail"
weight = 1
code = """
return 1 // 0, 0.0
"""
'''

OPTIONS = SamplerOptions(particles=4, rounds=3, refinements=1, minibatch=4)

_SPLITS: dict[str, int | float] = {"validation": 10, "selection": 5, "test": 7}
_SOURCE = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Only
        {body}
"""


def addition_task(
    seed: int = 0, rows: int = 22, instructions: str = "Add.", baseline: str | None = None
) -> Task:
    """Rows `What is a plus b?`: 10 for validation, 5 for selection, 7 for the test."""
    return load_task(
        instructions=instructions,
        examples=[
            {"input": f"What is {i} plus {i * 7 % 13}?", "target": str(i + i * 7 % 13)}
            for i in range(rows)
        ],
        scorer="numeric",
        splits=_SPLITS,
        baseline=baseline,
        seed=seed,
    )


def request(seed: int = 0, **changes: Any) -> RunRequest:
    """A request for a search over the additions, with other fields as given."""
    asked = RunRequest(
        task=addition_task(seed), executor=SPEC, grammar=GRAMMAR, options=OPTIONS, seed=seed
    )
    return replace(asked, **changes)


def answer_addition(asked: ChatRequest) -> str:
    """The sum, or a wrong one: by the style, the numbers and, above temperature 0, the sample."""
    text = asked.messages[-1].content
    first, second = (int(number) for number in re.findall(r"\b\d+\b", text)[:2])
    style = re.search(r"style(\d)", text)
    draw = hashlib.blake2b(f"{asked.sample}".encode(), digest_size=1).digest()[0]
    lucky = asked.temperature == 0 or draw % 4 > 0
    right = style is not None and first % (int(style[1]) + 1) > 0 and lucky
    return str(first + second + (0 if right else 1))


def workflow(body: str) -> Workflow:
    """A workflow of one step; `body` may span lines, each with the indentation of 8."""
    return parse_workflow(_SOURCE.format(body=body))
