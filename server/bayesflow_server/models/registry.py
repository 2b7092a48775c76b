"""Every chat model this server may use, by its spec `provider:model`.

An adapter is built once and lives as long as the server. Asking what is available imports no SDK
and opens no connection. The composition root owns the one registry; the gateway gets its models
from it.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bayesflow_server.errors import ModelUnavailableError
from bayesflow_server.models.anthropic import ANTHROPIC, AnthropicModel
from bayesflow_server.models.chat import ChatModel
from bayesflow_server.models.local import LocalModel
from bayesflow_server.models.openai import OPENAI, OpenAIModel
from bayesflow_server.models.scripted import ScriptedModel
from bayesflow_server.models.weights import (
    DOWNLOADABLE,
    cache_folder,
    find_weights,
    registered_names,
)

__all__ = ["ModelInfo", "ModelRegistry"]

# Shown by `available`; any other model id of a provider is accepted too.
_SUGGESTED = (
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-sonnet-5-5",
    "anthropic:claude-opus-5-5",
    "openai:gpt-5-mini",
    "openai:gpt-5",
)
_SCRIPT_VARIABLE = "BAYESFLOW_SCRIPTED_MODEL"
_FORMS = "anthropic:MODEL, openai:MODEL or local:NAME"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and whether it could be called now.

    Attributes:
        spec: What a caller writes.
        provider: The part before the colon.
        ready: Whether nothing is missing. A key is not tried out.
        why_not: What is missing and what to do about it; None if ready.
    """

    spec: str
    provider: str
    ready: bool
    why_not: str | None


class ModelRegistry:
    """Builds each model once and closes them all."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        on_wait: Callable[[str, bool], None] = lambda _spec, _waiting: None,
    ) -> None:
        """Reads nothing yet.

        Args:
            environment: Keys and folders; the process's own if None.
            on_wait: Told (spec, True) when a local model must wait for another process that uses
                the local model, and (spec, False) when the wait is over.
        """
        self._environment = os.environ if environment is None else environment
        self._cache = cache_folder(self._environment)
        self._on_wait = on_wait
        self._models: dict[str, ChatModel] = {}

    def available(self) -> list[ModelInfo]:
        """The models worth offering, ready or not, local ones first."""
        names = sorted({*DOWNLOADABLE, *registered_names(self._cache)})
        specs = [f"local:{name}" for name in names]
        if self._environment.get(_SCRIPT_VARIABLE):
            specs.append("scripted:default")
        return [self._info(spec) for spec in (*specs, *_SUGGESTED)]

    def require(self, spec: str) -> None:
        """Checks that the model could be called now, without calling it.

        Raises:
            ModelUnavailableError: With one sentence that says what to do.
        """
        provider, _, name = spec.partition(":")
        if spec == "grammar":
            raise ModelUnavailableError(
                "'grammar' writes workflows but answers no questions: use it as the optimizer, "
                f"and as executor one of {_FORMS}."
            )
        checks: Mapping[str, Callable[[str], object]] = {
            "anthropic": self._require_anthropic,
            "openai": self._require_openai,
            "local": self._require_local,
            "scripted": self._require_scripted,
        }
        if provider not in checks or not name:
            raise ModelUnavailableError(f"Unknown model '{spec[:80]}': write {_FORMS}.")
        checks[provider](name)

    def model(self, spec: str) -> ChatModel:
        """The model of that spec, the same object every time.

        Raises:
            ModelUnavailableError: As `require`.
        """
        if spec not in self._models:
            self.require(spec)
            self._models[spec] = self._build(spec)
        return self._models[spec]

    async def aclose(self) -> None:
        """Closes every model that was built."""
        models = list(self._models.values())
        self._models.clear()
        for model in models:
            await model.aclose()

    def _info(self, spec: str) -> ModelInfo:
        why_not = None
        try:
            self.require(spec)
        except ModelUnavailableError as error:
            why_not = str(error)
        provider = spec.partition(":")[0]
        return ModelInfo(spec=spec, provider=provider, ready=why_not is None, why_not=why_not)

    def _build(self, spec: str) -> ChatModel:
        provider, _, name = spec.partition(":")
        match provider:
            case "anthropic":
                return AnthropicModel(name, environment=self._environment)
            case "openai":
                return OpenAIModel(name, environment=self._environment)
            case "scripted":
                return ScriptedModel.from_file(Path(self._environment[_SCRIPT_VARIABLE]))
            case _:
                weights = self._require_local(name)
                return LocalModel(
                    name,
                    weights,
                    self._cache,
                    on_wait=lambda waiting: self._on_wait(spec, waiting),
                )

    def _require_anthropic(self, _: str) -> None:
        ANTHROPIC.key(self._environment)

    def _require_openai(self, name: str) -> None:
        if importlib.util.find_spec("openai") is None:
            raise ModelUnavailableError(
                f"openai:{name} needs a package: pip install 'bayesflow-mcp[openai]'"
            )
        OPENAI.key(self._environment)

    def _require_local(self, name: str) -> Path:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ModelUnavailableError(
                f"local:{name} needs a package: pip install 'bayesflow-mcp[local]'"
            )
        weights = find_weights(name, self._cache)
        if weights is not None:
            return weights
        if name in DOWNLOADABLE:
            raise ModelUnavailableError(
                f"The weights of local:{name} are not here yet: bayesflow-mcp pull {name}"
            )
        known = ", ".join(sorted({*DOWNLOADABLE, *registered_names(self._cache)}))
        raise ModelUnavailableError(
            f"No local model '{name[:80]}'. There are: {known} (bayesflow-mcp pull smollm2). A "
            "file of yours becomes one with: bayesflow-mcp pull NAME --gguf FILE"
        )

    def _require_scripted(self, name: str) -> None:
        if name != "default" or not self._environment.get(_SCRIPT_VARIABLE):
            raise ModelUnavailableError(
                "The only scripted model is scripted:default, for tests, and it exists only if "
                f"the server was started with {_SCRIPT_VARIABLE}."
            )
