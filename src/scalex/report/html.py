"""The report as one self-contained HTML file: no outside request, readable without scripts, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from scalex.errors import ScalexError
from scalex.report import ledger, numbers, theme, views, words
from scalex.report import manifest as manifests
from scalex.report.pictures import Picture, strips
from scalex.report.sections import MOST, Section, section

__all__ = ["LARGEST", "render"]

LARGEST = 5_000_000  # bytes of the whole file
_ROOM = 200_000  # bytes left free below that
_HERE = Path(__file__).parent


class Cell(NamedTuple):
    """A cell of the findings table: what is read, and what it is sorted by."""

    text: str
    key: str
    css: str = ""


def render(
    findings: pd.DataFrame, manifest: Mapping[str, Any], pictures: Mapping[str, Sequence[Picture]], path: Path
) -> Path:
    """Writes the report and returns where it is.

    Args:
        findings: one row per finding, with the columns of `Finding`. May be empty.
        manifest: what ran; see `scalex.report.manifest.Manifest`. Only `model` is required.
        pictures: for each concept, decoded pictures in the order of their seeds, uint8 of shape (height, width, 3). The
            first eight are shown, smaller where the file would grow beyond 5 MB.
        path: the file to write, replaced in one step.

    Raises:
        ScalexError: a column or the model's name is missing, a picture has another form, or the file cannot be written.
    """
    frame, told = views.checked(findings), manifests.checked_manifest(manifest)
    page = _page(frame, told)
    template = _environment().get_template("report.html.j2")
    bare = len(template.render(page).encode())
    page["strips"] = strips(pictures, LARGEST - _ROOM - bare)
    return _write(Path(path), template.render(page))


def _write(path: Path, text: str) -> Path:
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise ScalexError(f"the report cannot be written to {path}: {error.strerror}", "Choose another folder") from error
    return path


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(count=numbers.count, duration=numbers.duration, flop=numbers.flop, plural=numbers.plural)
    made.filters.update(joined=words.joined, capital=words.capital)
    return made


def _page(findings: pd.DataFrame, manifest: Mapping[str, Any]) -> dict[str, Any]:
    rules, spec = manifests.rules(manifest), manifests.attribute_values(manifest)
    sections = [section(findings, name, rules.margin, spec) for name in views.attributes(findings)]
    order = _order(findings, sections)
    return {
        "headline": words.headline([s.tally for s in sections]),
        "sections": sections,
        "rules": rules,
        "manifest": manifest,
        "asked": {key: manifests.asked(manifest, key) for key in ("steps", "guidance", "level", "pooling", "seeds")},
        "examples": _examples(manifest, sections),
        "facts": _facts(findings, manifest),
        "entries": ledger.entries(findings, order, rules.margin, spec),
        "most": MOST,
        "columns": _COLUMNS,
        "table": [_cells(row) for row in findings.to_dict("records")],
        "choices": {name: list(findings[name].unique()) for name in ("attribute", "analysis", "reading", "verdict")},
        "templates": manifests.templates(manifest),
        "n_templates": int(findings["n_templates"].max()) if len(findings) else 0,
        "distilled": _distilled(manifest),
        "version": metadata.version("scalex-diffusion"),
        "strips": {},
        **_assets(),
    }
