"""The rules of the house: rooms, and arrows that run one way."""

import ast
from pathlib import Path

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


@pytest.mark.parametrize("name", FILES)
def test_arrows_run_one_way(name):
    below = set().union(*FLOORS[: next(n for n, floor in enumerate(FLOORS) if room(name) in floor)])
    assert imports(name) <= below


@pytest.mark.parametrize("name", FRONT)
def test_front_imports_itself_photo_checkpoint_and_system(name):
    assert imports(name) <= {*FRONT, "photo", "checkpoint", "system"}
