"""How true are the findings? An organism is audited, and what the audit says is compared with what is so.

Two truths are kept apart. *Planted*: the probabilities under which captions were paired with pictures. *Realised*: the
shares that the trained model really draws, by the exact readout. An audit is about the model: it is judged by the
realised truth, and the planted one stands beside it.

An open set: each module of this folder scores one ability, and offers `NAME` and `score(bed)`, which gives marks. A
new one is one new file; modules whose names begin with an underscore are shared parts.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from scalex.capture import Progress
from scalex.errors import ScalexError, resumable
from scalex.organisms import EMBEDDED
from scalex.organisms.marks import Mark
from scalex.organisms.readout import load_truth
from scalex.truth._bed import Bed
from scalex.truth._people import SCORERS, Scored, blocks, score_people
from scalex.wording import did_you_mean

__all__ = ["PEOPLE", "SCORERS", "Bed", "Scored", "available", "blocks", "markdown", "score_organism"]

PEOPLE = "people"


@runtime_checkable
class Scorer(Protocol):
    """What every module of the set offers."""

    NAME: str

    def score(self, bed: Bed) -> Iterable[Mark]:
        """The figures of one ability, with their marks."""


def available() -> dict[str, Scorer]:
    """All scores by name, beside `PEOPLE`."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    modules = [cast(Scorer, importlib.import_module(f"{__name__}.{name}")) for name in names]
    return {module.NAME: module for module in modules}


def score_organism(
    folder: Path | None,
    out: Path,
    *,
    seeds: int = 128,
    block: int | None = None,
    images: int = 512,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Mark]:
    """Audits an organism and returns every figure with its mark.

    Args:
        folder: the organism; None is the embedded one.
        seeds: of the audit of people. Four times an audit's default: at 32 the binomial error of a share, 0.09 near one
            half, would hide how true the method is. What is captured is kept: fewer seeds are then scored in no time.
        block: cuts these seeds into disjoint blocks of so many (see `score_people`); nothing else is scored then.
        images: pictures behind each realised share. They are drawn once and kept in `out/realised-*.csv`.
        only: the scores to make, `PEOPLE` and those of `available`; None for all.
        progress: called with samples done and to do, then with pictures drawn and to draw.

    Raises:
        ScalexError: the folder holds no organism, `out` cannot be written, the seeds do not make whole blocks, or there
            is no such score.
    """
    members = available()
    chosen = list(only) if only else [PEOPLE, *(members if block is None else ())]
    for name in chosen:
        if name != PEOPLE and name not in members:
            raise ScalexError(f"there is no score {name!r}", did_you_mean(name, [PEOPLE, *members], "Scores"))
    bed = Bed(folder, load_truth(folder or EMBEDDED), out, seeds, images, progress)
    marks: list[Mark] = []
    with resumable(f"what was captured and drawn is kept in {out}"):
        for name in chosen:
            marks += score_people(bed, block=block) if name == PEOPLE else members[name].score(bed)
    return marks


def markdown(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The figures as a Markdown table: a row a figure, a column an organism; what was missed is bold.

    Args:
        scores: for each organism its figures as `Mark.row` gives them.
    """
    names = list(dict.fromkeys(row["name"] for rows in scores.values() for row in rows))
    found = [{row["name"]: row for row in rows} for rows in scores.values()]
    lines = [["figure", "mark", *scores], ["---"] * (2 + len(scores))]
    for name in names:
        cells = [rows.get(name) for rows in found]
        asked = next(row["mark"] for row in cells if row)
        lines.append([name.replace("|", r"\|"), asked, *map(_cell, cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    text = "unknown" if row["value"] is None else f"{row['value']:.3f}"
    text += " ({:.2f} to {:.2f})".format(*row["spread"]) if "spread" in row else ""
    return text if row["ok"] else f"**{text}**"
