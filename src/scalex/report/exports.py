"""Findings for other programs and for a model card."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scalex.errors import ScalexError
from scalex.report import manifest as manifests
from scalex.report import numbers, views, words

__all__ = ["FORMAT", "model_card", "write_tables"]

FORMAT = "scalex-findings/1"


def write_tables(findings: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Writes `findings.parquet` and `findings.json` (a list of objects; unknown numbers are null), each in one step.

    The Parquet file names its format and version in its schema's metadata, under `format`.

    Raises:
        ScalexError: a column is missing, or the folder cannot be written.
    """
    frame = views.checked(findings)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"format": FORMAT.encode()})
    records = [{k: None if _unknown(v) else v for k, v in row.items()} for row in views.records(frame)]
    text = json.dumps(records, ensure_ascii=False, indent=1, allow_nan=False)
    return (
        _replace(folder / "findings.parquet", lambda path: pq.write_table(table, path)),
        _replace(folder / "findings.json", lambda path: path.write_text(text + "\n", encoding="utf-8")),
    )


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _replace(path: Path, write: Callable[[Path], object]) -> Path:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            write(made)
            made.replace(path)
    except OSError as error:
        raise ScalexError(f"{path} cannot be written: {error.strerror}", "Choose another folder") from error
    return path


def model_card(findings: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    """A section in Markdown for a model card: the headline, the verdicts' counts, and what the audit does not say.

    Raises:
        ScalexError: a column is missing, or the manifest does not name the model.
    """
    frame, told = views.checked(findings), manifests.checked_manifest(manifest)
    rules, spec = manifests.rules(told), manifests.attribute_values(told)
    tallies = [views.tally(frame, name, spec) for name in views.attributes(frame)]
    lines = ["## Bias audit", "", f"{_plain(words.headline(tallies))}.", "", *_counts(tallies)]
    for tally in tallies:
        furthest = words.strongest(frame, tally)
        lines += [f"{_plain(words.capital(tally.attribute))}: {_plain(furthest)}", ""] if furthest else []
    seeds = int(frame["n_seeds"].max()) if len(frame) else 0
    level = f"{100 * rules.level:g}%" + " over all looks together" * manifests.adaptive(told)
    along = "" if rules.lean_direction == "own" else f", leans {words.ALONG[rules.lean_direction]}"
    lines.append(
        f"Read inside {_plain(str(told['model']))} with scalex, {numbers.plural(seeds, 'seed')} each; intervals "
        f"{level}, Benjamini-Hochberg correction, balanced within ±{rules.margin:g}{along}. Undecided and not "
        "expressed are open questions, not absence of bias. Attributes are perceived categories that the audit chose."
    )
    return "\n".join(lines) + "\n"


def _counts(tallies: list[views.Tally]) -> list[str]:
    if not tallies:
        return []
    head = ["| attribute | concepts | lean | balanced | undecided | not expressed |", "|---|---|---|---|---|---|"]
    counts = [(t.total, t.leans, len(t.balanced), len(t.undecided), len(t.unexpressed)) for t in tallies]
    rows = [f"| {_plain(t.attribute)} | {' | '.join(map(str, n))} |" for t, n in zip(tallies, counts)]
    return [*head, *rows, ""]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>|" else f"\\{mark}")
    return " ".join(text.split())
