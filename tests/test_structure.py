"""The rules of the house: who may import whom, and modules that stay short enough to read."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import colorlib

FOLDER = Path(colorlib.__file__).parent
MODULES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

MAY_IMPORT = {
    "__init__": set(),
    "environment": set(),
    "files": set(),
    "config": set(),
    "color": set(),
    "photo": set(),
    "steer": {"color"},
    "upsample": set(),
    "export": {"files", "photo"},
    "palette": set(),
    "model": {"palette"},
    "perceptual": {"color"},
    "losses": {"perceptual"},
    "parallel": set(),
    "download": {"environment", "files"},
    "cache": {"environment", "files", "photo"},
    "augment": {"config"},
    "data": {"augment", "config", "color", "cache", "download", "environment", "photo"},
    "checkpoint": {"config", "model", "environment", "files"},
    "state": {"config", "model", "losses", "environment", "parallel"},
    "plots": {"color", "files", "photo"},
    "charts": {"plots"},
    "monitor": {"color", "files", "plots"},
    "train": {"config", "losses", "data", "checkpoint", "state", "monitor", "parallel", "environment", "files"},
    "compare": set(),
    "batch": {"color"},
    "summary": {"compare"},
    "evaluation": {"batch", "color", "photo", "compare", "summary"},
    "analysis": {"color", "photo"},
    "colorize": {"config", "color", "photo", "model", "checkpoint", "environment", "steer", "upsample"},
    "folder": {"colorize", "data", "export", "photo"},
    "studio": {"checkpoint", "colorize", "environment", "export", "palette", "photo", "steer"},
    "parts": {"studio"},
    "panels": {"colorize", "parts", "steer", "studio"},
    "demo": {"colorize", "data", "environment", "panels", "parts", "studio"},
    "widgets": {"color", "colorize", "demo", "parts", "photo", "studio"},
    "score": {
        "analysis",
        "checkpoint",
        "color",
        "colorize",
        "data",
        "environment",
        "evaluation",
        "files",
        "perceptual",
        "photo",
        "plots",
    },
    "app": {"checkpoint", "colorize", "data", "environment", "photo", "steer", "studio"},
    "__main__": {"colorize", "folder", "steer"},
}
CORE = ("config", "color", "model", "losses", "data", "download", "checkpoint", "train", "evaluation")


def own_imports(tree: ast.Module) -> set[str]:
    """The modules of colorlib that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "colorlib." * bool(node.level) + (node.module or "")
            names = [start] if start.rstrip(".") != "colorlib" else [f"colorlib.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("colorlib.")}
    return found & set(MODULES)


def test_own_imports_are_found_in_every_spelling():
    code = "import colorlib.color\nfrom colorlib import files\nfrom . import data\ndef f():\n from .model import UNet"
    assert own_imports(ast.parse(code)) == {"color", "files", "data", "model"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert module in MAY_IMPORT, f"{module} needs a row in the design's table and here"
    assert own_imports(TREES[module]) <= MAY_IMPORT[module]


def test_no_import_runs_in_a_circle():
    order = list(MAY_IMPORT)
    for module, allowed in MAY_IMPORT.items():
        assert all(order.index(name) < order.index(module) for name in allowed), module


@pytest.mark.parametrize("module", MODULES)
def test_no_module_over_250_lines(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 250


def test_core_is_under_1500_lines():
    lines = {name: len(MODULES[name].read_text(encoding="utf-8").splitlines()) for name in CORE}
    assert sum(lines.values()) < 1500, lines


def public(tree: ast.Module) -> list[ast.AST]:
    """The public functions and classes of a module, and the classes' public methods."""
    kinds = ast.FunctionDef | ast.ClassDef
    top = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    methods = [
        node
        for owner in top
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, kinds) and not node.name.startswith("_") and node.name != "forward"
    ]
    return top + methods


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module):
    assert ast.get_docstring(TREES[module]), "the module itself"
    assert [node.name for node in public(TREES[module]) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("module", MODULES)
def test_functions_have_type_hints(module):
    for node in public(TREES[module]):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not missing and node.returns is not None, f"{node.name}: {missing or 'result'}"


def test_docstrings_name_tests_that_exist():
    tests = Path(__file__).parent
    for module, tree in TREES.items():
        for node in [tree, *public(tree)]:
            for word in (ast.get_docstring(node) or "").replace("`", " ").split():
                if word.startswith("tests/test_"):
                    name = word.rstrip(".,;:)").split("::")[0]
                    assert (tests.parent / name).is_file(), f"{module}: {name}"


@pytest.mark.parametrize("module", MODULES)
def test_no_device_and_no_path_at_module_level(module):
    """Nothing is decided at import: no torch.device, no Path(...), no folder as text."""
    for node in TREES[module].body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for part in ast.walk(node.value):
            call = ast.unparse(part.func) if isinstance(part, ast.Call) else ""
            assert call.split(".")[-1] not in ("device", "Path", "pick_device", "is_available", "getcwd"), node.lineno
            text = part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""
            assert not re.match(r"/\w|~|\.{1,2}/|[A-Z]:\\", text), f"line {node.lineno}: {text}"
            assert text not in ("cuda", "cpu", "mps"), f"line {node.lineno}: {text}"


@pytest.mark.parametrize("module", MODULES)
def test_errors_are_not_swallowed(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            assert not all(isinstance(line, ast.Pass) for line in node.body), f"line {node.lineno}: except … pass"


def test_package_itself_is_light():
    """`import colorlib` gives the version and imports nothing."""
    assert colorlib.__version__.count(".") == 2
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in TREES["__init__"].body)


def test_public_names_of_the_design():
    names = {
        "config": ["Config", "TINY", "SEED", "RELEASE"],
        "color": ["rgb_to_lab", "lab_to_rgb", "encode_lab", "decode_lab", "lab_to_rgb_image"],
        "palette": ["ColorPalette", "Palette"],
        "model": ["UNetBlock", "ResidualBlock", "UNet"],
        "losses": ["L1", "Huber", "ColorLoss"],
        "perceptual": ["Perceptual", "load_lpips"],
        "data": ["find_images", "split_paths", "ColorizationDataset", "get_dataloader", "sample_photos"],
        "checkpoint": ["save_checkpoint", "load_checkpoint", "load_model"],
        "train": ["train_epoch", "validate_epoch", "fit", "save_some_examples", "main"],
        "compare": [
            "bootstrap_interval",
            "pooled_psnr",
            "count_wins",
            "compare_methods",
            "wilcoxon_test",
            "permutation_test",
        ],
        "analysis": ["Failures", "tone_changes", "extremes", "near_gray"],
    }
    for module, expected in names.items():
        members = dict(inspect.getmembers(importlib.import_module(f"colorlib.{module}")))
        assert [name for name in expected if name not in members] == [], module
