"""An LLM that grades by a rubric; `evaluation.judging` asks it.

Unlike the others this scorer is asked, not computed: it takes a model session and a request. It
needs no expected answer; one that is there is shown to the judge.
"""

from typing import Literal

from pydantic import Field, field_validator

from bayesflow_server.evaluation.scorers.text import ScorerModel

__all__ = ["Judge"]


class Judge(ScorerModel):
    """The judge's grade over the best one, from 0 to 1."""

    kind: Literal["judge"] = "judge"
    rubric: str = Field(max_length=20_000, description="What a good answer is, in your words.")
    scale: int = Field(
        default=10, ge=1, le=100, description="The best grade; 1 stands for pass or fail."
    )

    @field_validator("rubric")
    @classmethod
    def _says_something(cls, rubric: str) -> str:
        if not rubric.strip():
            raise ValueError("it is empty; say in a sentence or two what a good answer is")
        return rubric
