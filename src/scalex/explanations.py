"""Explanations of classifiers as users ask for them and get them: from files to a table, JSON and labelled pictures."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from scalex.capture import Progress
from scalex.classifiers import Classifier, Pictures, classifier
from scalex.disk import disk_errors, write_atomic
from scalex.drawings import Drawings
from scalex.errors import ScalexError, resumable
from scalex.explaining import Effect, Explanation, explain
from scalex.jobs import prepare
from scalex.report.grid import grid, save_grid
from scalex.scenes import Edit, Scenes
from scalex.semantics import load_hierarchy
from scalex.spec import AuditSpec
from scalex.store import Store

__all__ = ["GRID", "TABLE", "as_dict", "explain_classifier", "in_rows", "picture_of", "save_explanation"]

TABLE, GRID = "explanation.json", "explanation.png"
_STORE = "store"


def explain_classifier(
    source: Classifier | Callable[[Pictures], Any] | str | Path,
    target: str | int,
    hierarchy: str | Path | Mapping[str, Any],
    concepts: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    model: str | Path | None = None,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seeds: int = 16,
    vectors: int = 16,
    beam: int = 3,
    top: int = 3,
    alpha: float = 1.0,
    edit: Edit = "steering",
    margin: float | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> Explanation:
    """Which semantics, steered into pictures of concepts, move a classifier's decision; as `scalex.explaining.explain`.

        scalex.explain_classifier(my_function, "judge", "semantics.yaml", ["pilot", "cook"], classes=["judge", "pilot"])

    Args:
        source: a callable that takes pictures, uint8 (n, height, width, 3), and gives scores (n, classes); or the local
            folder of an image-classification model of `transformers`, whose scores are probabilities.
        target: the class whose score is watched. classes: the names of a callable's classes, if it has any.
        hierarchy: of semantics, as `scalex.semantics` reads it.
        model, spec: of the generator, as for `scalex.prepare`; by default the embedded organism.
        out: a folder for what is captured and drawn, `explanation.json` and `explanation.png`; None writes nothing.
        seeds: of each level's pictures; vectors: that directions are estimated from. top: how many are pictured, and
            held against shuffled directions.
        edit: "steering", or "words" to say semantics in the prompt in place of steering.
        alpha: how far, in distances between the prompts. beam, margin: as for `scalex.explaining.explain`.
        device: "cpu", "cuda", ...; None is the best there is. progress: called with semantics tested and to test.
        overrides: keys of the spec that replace its own, as for `scalex.prepare`.

    Raises:
        ScalexError: anything wrong with classifier, class, hierarchy, concepts or model, in one line.
    """
    asked = classifier(source, classes, device)
    if classes or asked.classes:
        asked.column(target, len(asked.classes))  # before a model is loaded
    semantics = load_hierarchy(hierarchy)
    keys = {"concepts": list(concepts), "seeds": vectors, "attributes": {}, **overrides}
    job = prepare(model, spec, device=device, **keys)
    with _place(out) as store, _resumed(store, out is not None):
        drawings = Drawings.open(out) if out is not None else Drawings()
        scenes = Scenes(job, concepts, semantics, Store.open(store), alpha=alpha, edit=edit, drawings=drawings)
        how: dict[str, Any] = {"seeds": seeds, "beam": beam, "controls": top, "margin": margin, "progress": progress}
        found = explain(asked, target, semantics, scenes, **how)
    if out is not None:
        save_explanation(found, out, top)
    return found


def _resumed(store: Path, kept: bool) -> AbstractContextManager[None]:
    return resumable(f"what was captured and drawn is kept in {store.parent}") if kept else nullcontext()


@contextmanager
def _place(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out) / _STORE
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def as_dict(found: Explanation) -> dict[str, Any]:
    """An explanation as plain data; what is unknown is None."""
    told: dict[str, Any] = {
        "classifier": found.classifier,
        "class": found.target,
        "unit": found.unit,
        "concepts": list(found.concepts),
    }
    how = {"seeds": found.seeds, "alpha": found.alpha, "edit": found.edit}
    tested = [{**asdict(t), "semantic": t.semantic.name} for t in found.tested]
    left = [{"semantic": one.semantic.name, "below": one.below.name} for one in found.pruned]
    plain: dict[str, Any] = _known({**told, **how, "tested": tested, "pruned": left})
    return plain


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def in_rows(found: Explanation) -> list[tuple[str, ...]]:
    """The table of an explanation as cells of text, the head first."""
    head = (
        "",
        "semantic",
        "effect",
        "95 %" if found.tested else "",
        "q",
        "in words",
        "shuffled",
        "flipped",
        "changed",
        "verdict",
    )
    return [head, *(_row(i, t) for i, t in enumerate(found.tested, start=1))]


def _row(rank: int, t: Effect) -> tuple[str, ...]:
    worded, shuffled = ("" if math.isnan(x) else f"{x:+.2f}" for x in (t.worded, t.shuffled))
    closed = " (not opened)" if t.opened is False else ""
    numbers = (f"{t.effect:+.2f}", _span(t), f"{t.q:.2g}", worded, shuffled, f"{t.flipped:.0%}", f"{t.changed:.2f}")
    return (str(rank), t.semantic.name, *numbers, t.verdict + closed)


def _span(t: Effect) -> str:
    return "all seeds alike" if math.isnan(t.low) else f"{t.low:+.2f} to {t.high:+.2f}"


def save_explanation(found: Explanation, out: str | Path, top: int = 3) -> list[Path]:
    """Writes `explanation.json`, and `explanation.png` with the strongest semantics. Returns the files.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    folder = Path(out)
    save_grid(picture_of(found, top), folder / GRID)
    with disk_errors(folder, option="--out"):
        write_atomic(folder / TABLE, json.dumps(as_dict(found), ensure_ascii=False, indent=1))
    return [folder / TABLE, folder / GRID]


def picture_of(found: Explanation, top: int = 3) -> Image.Image:
    """The strongest semantics, each as a row of pictures without it over the same seeds with it, with their scores."""
    shown = [t for t in found.tested if t.semantic.name in found.samples][: max(1, top)]
    if not shown:
        raise ScalexError("there is nothing to picture", "Test one semantic at least")
    samples = [found.samples[t.semantic.name] for t in shown]
    rows = [pictures for one in samples for pictures in (one.before, one.after)]
    scores = [values for one in samples for values in one.scores[:2]]
    labels = ["without", "with"] * len(shown)
    captions: dict[tuple[int, int], str] = {}
    for i, values in enumerate(scores):
        captions |= {(i, j): f"{score:.2f}" for j, score in enumerate(values)}
    headings = {2 * i: f"{i + 1}. {_heading(t)}" for i, t in enumerate(shown)}
    title = f"{found.classifier}: what moves its {found.unit} of {found.target!r}"
    return grid(rows, labels, (), title, headings=headings, captions=captions)


def _heading(t: Effect) -> str:
    return f"{t.semantic.name}: {t.effect:+.2f} ({_span(t)}), {t.verdict}"
