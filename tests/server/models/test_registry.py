import subprocess
import sys
from pathlib import Path

import pytest

import bayesflow_server
from bayesflow_server.errors import ModelUnavailableError
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.models.endpoints import Price, parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.models.weights import pull


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    script = tmp_path / "script.json"
    script.write_text('{"default": "scripted answer"}')
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF")
    pull("mine", cache=tmp_path, gguf=mine)
    return {
        "BAYESFLOW_CACHE": str(tmp_path),
        "BAYESFLOW_SCRIPTED_MODEL": str(script),
        "ANTHROPIC_API_KEY": "sk-planted",
        "OPENAI_API_KEY": "sk-planted",
    }


def nothing_installed(name: str) -> None:
    """In place of `importlib.util.find_spec`."""


SPECS = ["anthropic:claude-haiku-5-5", "openai:gpt-5", "local:mine", "scripted:default"]


@pytest.mark.parametrize("spec", SPECS)
async def test_a_model_is_built_once_and_bears_its_spec(
    environment: dict[str, str], spec: str
) -> None:
    registry = ModelRegistry(environment)
    registry.require(spec)
    model = registry.model(spec)
    assert model is registry.model(spec)
    assert model.spec == spec
    assert model.identity
    assert model.concurrency >= 1
    assert "sk-planted" not in repr(model) + model.identity
    await registry.aclose()
    await registry.aclose()


async def test_a_scripted_model_answers_through_the_registry(environment: dict[str, str]) -> None:
    request = ChatRequest((ChatMessage("user", "hi"),))
    completion = await ModelRegistry(environment).model("scripted:default").complete(request)
    assert completion.text == "scripted answer"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "write anthropic:MODEL"),
        ("claude-haiku-5-5", "write anthropic:MODEL"),
        ("anthropic:", "write anthropic:MODEL"),
        ("gemini:pro", "Unknown model 'gemini:pro'"),
        ("grammar", "use it as the optimizer"),
        ("client", "is the agent that calls these tools"),
        ("client", "anthropic:MODEL, openai:MODEL or local:NAME"),
        ("anthropic:claude-haiku-5-5", "set ANTHROPIC_API_KEY"),
        ("openai:gpt-5", "set OPENAI_API_KEY"),
        ("local:smollm2", "bayesflow-mcp pull smollm2"),
        ("local:nosuch", "There are: smollm2"),
        ("local:../../etc/passwd", "No local model"),
        ("scripted:default", "only if the server was started with BAYESFLOW_SCRIPTED_MODEL"),
        ("scripted:/etc/passwd", "only scripted model"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path, spec: str, says: str) -> None:
    registry = ModelRegistry({"BAYESFLOW_CACHE": str(tmp_path)})
    for ask in (registry.require, registry.model):
        with pytest.raises(ModelUnavailableError) as caught:
            ask(spec)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spec", "extra"), [("openai:gpt-5", "openai"), ("local:mine", "local")])
def test_a_missing_extra_is_named(
    environment: dict[str, str], spec: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", nothing_installed)
    with pytest.raises(ModelUnavailableError, match=rf"pip install 'bayesflow-mcp\[{extra}\]'"):
        ModelRegistry(environment).require(spec)


def test_the_list_says_what_is_ready_and_why_the_rest_is_not(environment: dict[str, str]) -> None:
    del environment["OPENAI_API_KEY"]
    models = {info.spec: info for info in ModelRegistry(environment).available()}
    assert models["local:mine"].ready
    assert models["scripted:default"].ready
    assert models["anthropic:claude-haiku-5-5"].why_not is None
    assert "OPENAI_API_KEY" in (models["openai:gpt-5"].why_not or "")
    assert "pull smollm2" in (models["local:smollm2"].why_not or "")
    del environment["BAYESFLOW_SCRIPTED_MODEL"]
    assert "scripted:default" not in {info.spec for info in ModelRegistry(environment).available()}


LAB = "lab=http://localhost:8000/v1,key=LAB_KEY,price_in=1,price_out=2.5"
OPEN = "open=http://localhost:9000,api=anthropic,concurrency=3,rpm=60"


def test_endpoints_are_models_too_and_named_where_a_spec_is_wrong(tmp_path: Path) -> None:
    environment = {"BAYESFLOW_CACHE": str(tmp_path)}
    registry = ModelRegistry(environment, endpoints=parse_endpoints([LAB, OPEN]))
    registry.require("open:any/model:of-it")
    for spec, says in [
        ("gemini:pro", "lab:MODEL, open:MODEL or local:NAME"),
        ("lab:", "lab:MODEL"),
        ("client", "lab:MODEL"),
        ("lab:m", "The endpoint 'lab' needs a key: set LAB_KEY"),
    ]:
        with pytest.raises(ModelUnavailableError) as caught:
            registry.require(spec)
        assert says in str(caught.value)
    models = {info.spec: info for info in registry.available()}
    assert models["open:MODEL"].ready
    assert "LAB_KEY" in (models["lab:MODEL"].why_not or "")


async def test_models_of_an_endpoint_carry_its_pace_and_share_its_connection(
    tmp_path: Path,
) -> None:
    environment = {"BAYESFLOW_CACHE": str(tmp_path), "LAB_KEY": "sk-planted"}
    registry = ModelRegistry(environment, endpoints=parse_endpoints([LAB, OPEN]))
    model = registry.model("open:m:1")
    assert (model.spec, model.concurrency) == ("open:m:1", 3)
    assert model.pace.requests_per_minute == 60
    assert "localhost:9000" in model.identity  # the name may stand for another machine tomorrow
    assert registry.model("lab:m").spec == "lab:m"
    await registry.aclose()


def test_what_is_known_of_keys_and_prices(tmp_path: Path) -> None:
    environment = {"BAYESFLOW_CACHE": str(tmp_path), "ANTHROPIC_API_KEY": "sk-planted"}
    registry = ModelRegistry(environment, endpoints=parse_endpoints([LAB, OPEN]))
    assert registry.price_overrides() == {"lab": Price(1.0, 2.5)}
    known = {name: registry.has_key(name) for name in ("anthropic", "openai", "lab", "open", "x")}
    assert known == {"anthropic": True, "openai": False, "lab": False, "open": True, "x": False}


def test_asking_what_is_available_imports_no_sdk() -> None:
    code = (
        "import sys; from bayesflow_server.models.registry import ModelRegistry;"
        "ModelRegistry().available();"
        "print(sorted({'anthropic', 'openai', 'xllamacpp', 'httpx2'} & set(sys.modules)))"
    )
    root = Path(bayesflow_server.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
