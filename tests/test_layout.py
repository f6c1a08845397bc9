"""A file is a closed stage, a folder is an open set, and imports run one way."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scalex

ROOT = Path(scalex.__file__).parent

# Downwards: a stage imports only from stages above it. A folder is one stage.
STAGES = [
    "errors",
    "caches",
    "disk",
    "scratch",
    "records",
    "wording",
    "vocabularies",
    "spec_errors",
    "images",
    "spec",
    "sources",
    "prompts",
    "models",
    "plan",
    "trajectory",
    "batches",
    "texts",
    "capture",
    "tuning",
    "places",
    "keeping",
    "rows",
    "moments",
    "table",
    "health",
    "index",
    "store",
    "engine",
    "stats",
    "whitening",
    "directions",
    "direction_files",
    "steering",
    "drawings",
    "library",
    "analyses",
    "differences",
    "matching",
    "organisms",
    "classifiers",
    "scorers",
    "misclassification",
    "report",
    "runs",
    "sequential",
    "jobs",
    "readouts",
    "outlook",
    "steering_vectors",
    "steered",
    "semantics",
    "scenes",
    "explaining",
    "explanations",
    "auditing",
    "sweep",
    "patching",
    "naming",
    "discovery",
    "discovering",
    "switches",
    "ablation",
    "switching",
    "nearest",
    "comparing",
    "gating",
    "mitigation",
    "validation",
    "truth",
    "doctor",
    "cli",
    "__main__",
]


def _modules() -> Iterator[Path]:
    return ROOT.rglob("*.py")


def _stage(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{a.name}" for a in node.names)


@pytest.mark.parametrize("path", sorted(_modules()), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    stage = _stage(path)
    if stage == "__init__":
        return
    assert stage in STAGES, f"{stage} has no place in the flow: add it to STAGES"
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "scalex" and len(parts) > 1 and parts[1] in STAGES and parts[1] != stage:
            assert STAGES.index(parts[1]) < STAGES.index(stage), f"{stage} imports {parts[1]}, a later stage"


def test_no_member_of_an_open_set_is_named_outside_it() -> None:
    """Adding an analysis, a family or a vocabulary edits no other file: so none may be listed in its `__init__`."""
    for folder in ("analyses", "discovery", "models"):
        members = {p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("_") and p.stem != "base"}
        assert members
        named = {n.rsplit(".", 1)[-1] for n in _imports(ROOT / folder / "__init__.py")}
        assert not members & named


def test_importing_scalex_and_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, scalex, scalex.cli;"
        "print([m for m in ('torch', 'diffusers', 'lance', 'pandas', 'numpy', 'altair') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_what_needs_no_model_loads_no_library_of_models() -> None:
    code = (
        "import sys, scalex.auditing, scalex.comparing, scalex.gating, scalex.store;"
        "print([m for m in ('diffusers', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in scalex.__all__:
        assert getattr(scalex, name) is not None
    modules = {path.stem for path in ROOT.iterdir()}
    assert not modules & set(scalex.__all__), "importing the module of that name would take its place"
    with pytest.raises(AttributeError, match="has no attribute 'adit'"):
        scalex.adit  # noqa: B018


def test_what_is_public_is_explained() -> None:
    """In the module's own text, and each with all that it takes or holds."""
    for name in scalex.__all__:
        assert re.search(rf"\b{name}\b", f"{scalex.__doc__} Audit AuditSpec Comparison Gate"), name
        made = getattr(scalex, name)
        text = inspect.getdoc(made) or ""
        names = [f.name for f in dataclasses.fields(made)] if dataclasses.is_dataclass(made) else []
        if inspect.isfunction(inspect.unwrap(made)):
            names = list(inspect.signature(made).parameters)
        lacking = [one for one in names if not one.startswith("_") and not re.search(rf"\b{one}\b", text)]
        assert not lacking, f"{name} does not say what {lacking} are"


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (ROOT / "py.typed").is_file()
