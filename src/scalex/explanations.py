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

from PIL import Image, ImageDraw, ImageFont

from scalex.capture import Progress
from scalex.classifiers import Classifier, Pictures, classifier
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError, resumable
from scalex.explaining import Edit, Effect, Explanation, Samples, Scenes, explain
from scalex.jobs import prepare
from scalex.semantics import load_hierarchy
from scalex.spec import AuditSpec
from scalex.store import Store

__all__ = ["GRID", "TABLE", "as_dict", "explain_classifier", "grid", "in_rows", "save_explanation"]

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
        out: a folder for the captured latents, `explanation.json` and `explanation.png`; None writes nothing.
        seeds: of each level's pictures; vectors: that directions are estimated from. top: how many are pictured, and
            held against shuffled directions.
        edit: "steering", or "words" to say semantics in the prompt in place of steering.
        beam, margin: as for `scalex.explaining.explain`.
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
        scenes = Scenes(job, concepts, semantics, Store.open(store), alpha=alpha, edit=edit)
        how: dict[str, Any] = {"seeds": seeds, "beam": beam, "controls": top, "margin": margin, "progress": progress}
        found = explain(asked, target, semantics, scenes, **how)
    if out is not None:
        save_explanation(found, out, top)
    return found


def _resumed(store: Path, kept: bool) -> AbstractContextManager[None]:
    return resumable(f"what was captured is kept in {store}") if kept else nullcontext()


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
    import io

    folder, picture = Path(out), io.BytesIO()
    grid(found, top).save(picture, format="PNG")
    with disk_errors(folder, option="--out"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / TABLE, json.dumps(as_dict(found), ensure_ascii=False, indent=1))
        write_atomic(folder / GRID, picture.getvalue())
    return [folder / TABLE, folder / GRID]


# ---------------------------------------------------------------------------------------------------- pictures

_CELL, _GAP, _TEXT, _LABEL = 96, 6, 13, 84  # pixels: a picture, between, of letters, of the labels at the left
_INK, _SOFT = "#1b1f24", "#57606a"


def grid(found: Explanation, top: int = 3) -> Image.Image:
    """The strongest semantics, each as a row of pictures without it over the same seeds with it, with their scores."""
    shown = [t for t in found.tested if t.semantic.name in found.samples][: max(1, top)]
    if not shown:
        raise ScalexError("there is nothing to picture", "Test one semantic at least")
    columns = max(len(found.samples[t.semantic.name].before) for t in shown)
    block = 2 * (_CELL + _TEXT + _GAP) + 2 * _TEXT + 2 * _GAP
    head = 3 * _TEXT + _GAP
    canvas = Image.new("RGB", (_LABEL + columns * (_CELL + _GAP) + _GAP, head + len(shown) * block), "white")
    draw = ImageDraw.Draw(canvas)
    title = f"{found.classifier}: what moves its {found.unit} of {found.target!r}"
    draw.text((_GAP, _GAP), title, _INK, ImageFont.load_default(_TEXT + 3))
    for i, t in enumerate(shown):
        _block(canvas, draw, head + i * block, f"{i + 1}. {_title(t)}", found.samples[t.semantic.name])
    return canvas


def _title(t: Effect) -> str:
    return f"{t.semantic.name}: {t.effect:+.2f} ({_span(t)}), {t.verdict}"


def _block(canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, title: str, samples: Samples) -> None:
    font = ImageFont.load_default(_TEXT)
    draw.text((_GAP, top), title, _INK, font)
    rows = (("without", samples.before, samples.scores[0]), ("with", samples.after, samples.scores[1]))
    for r, (label, pictures, scores) in enumerate(rows):
        y = top + 2 * _TEXT + r * (_CELL + _TEXT + _GAP)
        draw.text((_GAP, y + _CELL // 2 - _TEXT // 2), label, _SOFT, font)
        for c, (pixels, score) in enumerate(zip(pictures, scores, strict=True)):
            x = _LABEL + c * (_CELL + _GAP)
            canvas.paste(Image.fromarray(pixels).resize((_CELL, _CELL), Image.Resampling.LANCZOS), (x, y))
            draw.text((x + _CELL // 2, y + _CELL), f"{score:.2f}", _SOFT, font, anchor="ma")
