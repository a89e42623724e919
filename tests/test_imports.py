"""The direction between the rooms (ARCHITECTURE.md): who may import whom, read off the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "clearsight"

DIRECT = {
    "config": set(),
    "kernels": set(),
    "inputs": {"config"},
    "messages": {"config"},
    "media": {"messages"},
    "processor": {"media", "inputs"},
    "model": {"config", "inputs", "kernels"},
    "engine": {"model", "inputs"},
    "answer": {"processor", "engine"},
    "wishes": {"processor", "engine"},
    "vlm": {"answer", "wishes"},
    "compat": {"vlm"},
    "live": {"vlm"},
    "server": {"live"},
    "eval": {"vlm"},
    "bench": {"live"},
    "agent": {"messages"},
    "train": {"processor", "model", "eval"},
}
"""Rooms that a room names as its neighbours; what they may import, it may import too. Built or still to come."""

EDGES = {"cli", "__init__", "__main__"}
"""Ways in: they may import every room, and no room imports them."""

FORBIDDEN_LIBRARIES = {
    "config": {"torch"},
    "messages": {"torch", "tokenizers"},
    "model": {"tokenizers", "PIL", "av"},
    "kernels": {"tokenizers", "PIL", "av"},
    "engine": {"tokenizers", "PIL", "av"},
}

PEERS = {
    PACKAGE / "bench" / "runtimes" / f"{name}.py" for name in ("transformers", "openvino", "llama_cpp", "gguf_files")
}
"""Other runtimes, each imported only in the process that measures it."""
OF_PEERS = {"transformers", "torchvision", "optimum", "openvino", "nncf", "gguf"}

FILES = sorted(PACKAGE.rglob("*.py"))


def allowed(room: str) -> set[str]:
    """`room` itself, its neighbours, and theirs."""
    if room in EDGES:
        return {*DIRECT, *EDGES}
    return {room}.union(*map(allowed, DIRECT[room]))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Full names of all modules that `source` imports, at the top or inside functions, relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from clearsight import vlm` names a room; `from clearsight import VLM` the front.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "clearsight" else (module,)


def rooms_in(modules: list[str]) -> set[str]:
    names = [module.split(".") for module in modules]
    inner = {parts[1] if len(parts) > 1 else "__init__" for parts in names if parts[0] == "clearsight"}
    return {room if room in DIRECT or room in EDGES else "__init__" for room in inner}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_the_direction(path: Path) -> None:
    assert room_of(path) in DIRECT.keys() | EDGES, "a new room needs its line in ARCHITECTURE.md and here"
    package = ("clearsight", *path.relative_to(PACKAGE).parts[:-1])
    modules = list(imported_modules(path.read_text(encoding="utf-8"), package))
    assert rooms_in(modules) <= allowed(room_of(path))
    libraries = {name.split(".")[0] for name in modules}
    if path not in PEERS:
        assert not libraries & OF_PEERS, "other runtimes are for tests and measuring alone"
    assert not libraries & FORBIDDEN_LIBRARIES.get(room_of(path), set())


def test_the_table_says_what_it_should() -> None:
    for core in ("config", "kernels", "inputs", "messages", "model", "engine"):
        assert not allowed(core) & {"processor", "media", "vlm", "train", "cli"}
    assert "engine" not in allowed("processor")
    assert allowed("vlm") >= {"processor", "engine", "model", "media", "messages", "inputs", "config", "kernels"}
    assert all(not EDGES & allowed(room) for room in DIRECT)


def test_the_reader_sees_every_form_of_import() -> None:
    forms = (
        "import clearsight.cli\nfrom clearsight import vlm, VLM\nfrom ..media import load\nif 1:\n    from . import x"
    )
    found = rooms_in(list(imported_modules(forms, ("clearsight", "engine"))))
    assert found == {"cli", "vlm", "__init__", "media", "engine"}
