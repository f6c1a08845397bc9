"""What README and docs tell people to type: Python that compiles and whose names exist, commands that are understood,
and the first steps, run."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import scalex
from scalex.cli import app
from scalex.organisms import EMBEDDED, EMBEDDED_UNET

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "src/scalex/organisms/emoji/README.md"]
FOREIGN = {"sae_lens"}  # what a page tells the reader to install
GIVEN = {  # what the reader has, as the words around the code say
    "alpha",  # how far
    "folder",  # of the organism
    "my_function",  # of pictures
    "my_scorer",  # of pictures, an object
    "older",  # another direction
    "pipe",  # a diffusers pipeline
    "vectors",  # latents
}


def _blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def _commands(page: Path) -> Iterator[list[str]]:
    for block in _blocks(page, "", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.search(r"(?:^|\s)(scalex [\w-].*)", line)
            if command and not line.lstrip().startswith("#"):
                yield shlex.split(command[1].replace("; done", ""), comments=True)


def _where(found: Callable[[Path], Iterable[Any]]) -> list[Any]:
    """The pages that hold such."""
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if [*found(page)]]


@pytest.mark.parametrize("page", _where(lambda page: _blocks(page, "python")))
def test_python_on_a_page_compiles_and_uses_what_there_is(page: Path) -> None:
    known = {*dir(builtins), *GIVEN, "scalex"} if page.name != "README.md" else {*dir(builtins), *GIVEN}
    for block in _blocks(page, "python"):
        tree = ast.parse(block)
        known |= {alias.asname or alias.name.split(".")[0] for alias in _aliases(tree)} | _bound(tree)
        assert not _read(tree) - known, f"names that nobody gave the reader, in:\n{block}"
        for name, attribute in _attributes(tree):
            assert name != "scalex" or hasattr(scalex, attribute), f"scalex.{attribute}"
        _check_imports(tree)


def _aliases(tree: ast.AST) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from node.names


def _bound(tree: ast.AST) -> set[str]:
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored | {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}


def _read(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr


def _check_imports(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module not in FOREIGN:
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("page", _where(_commands))
def test_commands_on_a_page_are_understood(page: Path) -> None:
    top = typer.main.get_command(app)
    for words in _commands(page):
        command, path, rest = top, words[0], words[1:]
        while hasattr(command, "get_command"):
            path, (name, *rest) = f"{path} {rest[0]}", rest
            command = command.get_command(None, name)
            assert command is not None, words
        command.make_context(path, list(rest))


def test_the_first_steps_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, but for fewer concepts and seeds; both checkpoints are the embedded organism."""
    monkeypatch.chdir(tmp_path)
    Path("path/to").mkdir(parents=True)
    for name in ("model", "tuned"):
        Path(f"path/to/{name}").symlink_to(EMBEDDED)
    spec, asked = _blocks(PAGES[0], "yaml")[0], "{vocabulary: professions, limit: 40}"
    assert asked in spec
    few = spec.replace(asked, "[cook, pilot]")
    Path("audit.yaml").write_text(f"{few}unet: {EMBEDDED_UNET}\nresamples: 200\npermutations: 199\n")
    first, second = _blocks(PAGES[0], "python")[:2]
    assert "seeds=64" in first
    space: dict[str, Any] = {}
    exec(first.replace("seeds=64", "seeds=4"), space)
    exec(second, space)
    assert "verdict" in capsys.readouterr().out
    assert space["audit"].report.is_file()
    assert space["gate"].rows


def test_variables_of_the_environment_are_listed_on_one_page() -> None:
    """Those that the source names in capitals, as whole texts."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"[\"'`]((?:SCALEX|RAY|AWS|AZURE|GOOGLE|LANCE|HF)_[A-Z0-9_]+)[\"'`]", sources))
    assert {"SCALEX_CACHE", "RAY_ADDRESS", "LANCE_LOG"} <= named
    listed = set(re.findall(r"`([A-Z0-9_]+)(?:=[^`]*)?`", (ROOT / "docs/environment.md").read_text(encoding="utf-8")))
    assert named <= listed, named - listed
    assert {name for name in listed if name.startswith("SCALEX_")} == {n for n in named if n.startswith("SCALEX_")}
