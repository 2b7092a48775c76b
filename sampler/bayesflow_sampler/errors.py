"""Errors of the sampler.

SamplerError
├── OptionsError     the sampler's options contradict each other or lie out of range
├── GrammarError     a step grammar that cannot serve as a prior
├── SourceError      text that is not a workflow with `# Step n:` steps
├── RewardError      a reward that is not a number a weight can be made of
└── WeightError      log-weights that define no distribution
"""

__all__ = [
    "GrammarError",
    "OptionsError",
    "RewardError",
    "SamplerError",
    "SourceError",
    "WeightError",
]


class SamplerError(Exception):
    """Root of every error that this package raises on purpose."""


class OptionsError(SamplerError):
    """The sampler's options contradict each other or lie out of range."""


class GrammarError(SamplerError):
    """A step grammar that cannot serve as a prior; the message names the production."""


class SourceError(SamplerError):
    """Text that is not a workflow with `# Step n:` steps.

    Attributes:
        line: 1-based line of the source where it goes wrong, or None.
    """

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class RewardError(SamplerError):
    """A reward is NaN or +inf; the message names the workflow. -inf is a weight of zero."""


class WeightError(SamplerError, ValueError):
    """Log-weights that define no distribution: NaN, +inf, or every one -inf."""
