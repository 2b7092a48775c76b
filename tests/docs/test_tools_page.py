import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tools", DOCS / "make_tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_tools_page_says_what_the_server_serves() -> None:
    module = generator()
    page = module.render(await module.list_tools())
    assert (DOCS / "tools.md").read_text(encoding="utf-8") == page, "run `make docs`"


async def test_every_tool_stands_on_the_page_with_its_arguments() -> None:
    page = (DOCS / "tools.md").read_text(encoding="utf-8")
    for tool in await generator().list_tools():
        assert f"## `{tool.name}`" in page
        for name in tool.input_schema.get("properties", {}):
            assert name in page
