"""How true are the findings? Scores organisms and writes the table to docs/truth.md, its headlines to the README.

    python bench/truth.py                 # the embedded organism
    python bench/truth.py ORGANISM ...    # others

An organism has two columns: its seeds in blocks of an audit's default, each analysed alone, and all seeds as one
audit. Columns of organisms that are not scored now stay as they were. Writes bench/results/truth.json and the tables.
Exit code 1 where a mark is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _tables import write_tables
from scalex.truth import score_organism

RESULTS = Path(__file__).parent / "results" / "truth.json"
FEW, SEEDS = 32, 128  # the default of an audit, and that of a score

Columns = dict[str, list[dict[str, Any]]]


def main(folders: list[Path]) -> int:
    """Scores each organism, the embedded one where none is named; returns the exit code."""
    asked: list[Path | None] = [*folders] or [None]
    new = {title: rows for folder in asked for title, rows in _score(folder).items()}
    scores = merged(json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}, new)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    print(write_tables("truth", scores))
    return int(not all(row["ok"] for rows in new.values() for row in rows))


def merged(old: Columns, new: Columns) -> Columns:
    """The old columns and the new ones. Of an organism that is scored now no old one stays; organisms keep their
    order."""
    scored = {_organism(title) for title in new}
    both = {title: rows for title, rows in old.items() if _organism(title) not in scored} | new
    order = list(dict.fromkeys(map(_organism, [*old, *new])))
    return {title: both[title] for title in sorted(both, key=lambda title: order.index(_organism(title)))}


def _organism(title: str) -> str:
    return title.rpartition(", ")[0]


def _score(folder: Path | None) -> Columns:
    """Both columns, in one folder: what was captured and drawn is not captured and drawn again."""
    name = folder.name if folder else "embedded"
    out = Path("runs") / f"score-{name}"
    few, whole = (score_organism(folder, out, seeds=SEEDS, block=block) for block in (FEW, None))
    titles = (f"{name}, {FEW} seeds (mean of {SEEDS // FEW})", f"{name}, {SEEDS} seeds")
    return {title: [mark.row() for mark in marks] for title, marks in zip(titles, (few, whole), strict=True)}


if __name__ == "__main__":
    sys.exit(main([Path(folder) for folder in sys.argv[1:]]))
