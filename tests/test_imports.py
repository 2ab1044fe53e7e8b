"""Imports point one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import clipmamba

ROOT = Path(clipmamba.__file__).parent

# Layer -> the layers it may import; those of FREE, and the package itself (its version), all may.
FREE = ("devices", "errors", "files", "hub", "hub_access", "weights")
_MODEL = {"ops", "nn", "models"}
_BESIDE = {"clip", "styles", "losses", "io"}
ALLOWED = {
    "devices": set(),
    "errors": set(),
    "files": set(),
    "hub": {"hub_access"},
    "hub_access": set(),
    "weights": set(),
    "ops": set(),
    "nn": {"ops"},
    "models": {"ops", "nn"},
    "clip": set(),
    "styles": {"clip", "io"},
    "losses": {"clip", "io"},
    "io": set(),
    # Each adapter to a model or a program of others is a layer of its own: those that the pipeline
    # asks know nothing of it.
    "integrations/pretrained": set(),
    "integrations/captions": {"integrations/pretrained"},
    "integrations/diffusion": {"io", "integrations/pretrained"},
    "integrations/segmenter": {"integrations/pretrained"},
    "regions": {"io"},
    "pipelines": _MODEL
    | _BESIDE
    | {"regions", "integrations/captions", "integrations/diffusion", "integrations/segmenter"},
    "video": {"nn", "styles", "io", "pipelines"},
    "integrations/diffusers": _MODEL | _BESIDE | {"pipelines"},
    "integrations/dataset": {"io"},
    "integrations/ray": {"styles", "io", "pipelines", "integrations/dataset"},
    "page": {"styles", "io", "pipelines"},
    "cli": _MODEL | _BESIDE | {"pipelines", "evaluate", "video", "page", "integrations/diffusion"},
    "__main__": {"cli"},
    "train": _MODEL | _BESIDE | {"regions", "pipelines", "evaluate"},
    "evaluate": _MODEL | _BESIDE | {"pipelines"},
}


def imported_modules(source: str, package: list[str]) -> set[str]:
    """Full names of everything a module imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def test_imports_are_found_in_every_form():
    source = (
        "import clipmamba.train.loop\nfrom ..train import x\n"
        "def f():\n    from clipmamba import train as t\n    from . import y\n"
    )
    assert imported_modules(source, ["clipmamba", "nn"]) == {
        "clipmamba.train.loop", "clipmamba.train.x", "clipmamba.train", "clipmamba.nn.y",
    }  # fmt: skip


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_imports_point_one_way(layer):
    files = [ROOT / f"{layer}.py"] if (ROOT / f"{layer}.py").exists() else []
    files += (ROOT / layer).rglob("*.py")
    wrong = []
    for file in files:
        package = ["clipmamba", *file.relative_to(ROOT).parts[:-1]]
        for name in imported_modules(file.read_text(encoding="utf-8"), package):
            parts = name.split(".")
            if parts[0] != "clipmamba" or len(parts) == 1:
                continue
            free = {layer, *FREE, "__version__"}
            layer_of = "/".join(parts[1:3]) if parts[1] == "integrations" else parts[1]
            if layer_of not in ALLOWED[layer] | free:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_every_folder_is_a_known_layer():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    adapters = {f"integrations/{path.stem}" for path in ROOT.glob("integrations/[!_]*.py")}
    assert (folders - {"integrations"}) | modules | adapters <= set(ALLOWED)


@pytest.mark.parametrize(
    "statement",
    [
        "import clipmamba",
        "import clipmamba.cli",
        "import clipmamba.integrations.captions, clipmamba.integrations.diffusion",
        "import clipmamba.integrations.dataset, clipmamba.integrations.ray",
        "import clipmamba.io",
        "import clipmamba.page",
        "import clipmamba.pipelines",
        "import clipmamba.regions.words, clipmamba.integrations.segmenter",
        "import clipmamba.styles",
        "import clipmamba.video",
    ],
)
def test_import_is_light_and_silent(statement):
    heavy = "{'torch', 'diffusers', 'transformers', 'open_clip', 'gradio', 'ray'}"
    code = f"{statement}; import sys; print({heavy} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
    assert done.stderr == ""


def test_public_names():
    assert set(clipmamba.__all__) == {
        "Photo", "Style", "StylizePipeline", "Stylizer", "__version__", "stylize", "warm_up",
    }  # fmt: skip
    for name in clipmamba.__all__:
        assert getattr(clipmamba, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = clipmamba.no_such_name
