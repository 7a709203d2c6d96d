"""The rules of the house: rooms, arrows that run one way, files that stay short enough to read."""

import ast
from pathlib import Path

import numpy as np
import pytest

import colorlib

FOLDER = Path(colorlib.__file__).parent
FILES = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
FRONT = ("config", "color", "model", "palette", "losses", "data", "train", "metrics")
# from the ground up: a file may import from its own room and from the floors below
FLOORS = [
    {"__init__", "config", "color"}, {"photo"}, {"system"}, {"palette", "metrics"}, {"model"},
    {"losses", "data", "plots", "checkpoint"}, {"train", "colorize"}, {"evaluation"}, {"ui", "__main__"},
]  # fmt: skip


def room(name):
    return name.split("/")[0]


def imports(name):
    """The rooms of colorlib from which a file imports at its top."""
    found = set()
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("colorlib.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "colorlib":
            path = node.module.split(".")[1:]
            found |= {path[0]} if path else {alias.name for alias in node.names if alias.name in map(room, FILES)}
    return found - {room(name)}


def test_imports_are_found_in_every_spelling():
    assert {"checkpoint", "system", "losses", "palette"} < imports("train")
    assert {"config", "model", "photo"} < imports("colorize/colorizer")


@pytest.mark.parametrize("name", FILES)
def test_arrows_run_one_way(name):
    below = set().union(*FLOORS[: next(n for n, floor in enumerate(FLOORS) if room(name) in floor)])
    assert imports(name) <= below


@pytest.mark.parametrize("name", FRONT)
def test_front_imports_itself_photo_checkpoint_and_system(name):
    assert imports(name) <= {*FRONT, "photo", "checkpoint", "system"}


def test_sizes():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert sum(lines[name] for name in FRONT) <= 1450
    assert {name: count for name, count in lines.items() if count > 400} == {}


@pytest.mark.parametrize("name", FILES)
def test_errors_are_not_swallowed(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            assert not all(isinstance(line, ast.Pass) for line in node.body), f"line {node.lineno}: except … pass"


@pytest.mark.parametrize("name", FILES)
def test_functions_have_type_hints(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not missing and node.returns is not None, f"{node.name}: {missing or 'result'}"


def test_load_gives_a_ready_colorizer(outputs):
    gray = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    assert colorlib.load().colorize(gray).shape == (20, 30, 3)
    with pytest.raises(FileNotFoundError, match="no run 'none'"):
        colorlib.load("none")
