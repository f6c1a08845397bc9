"""How true are the other abilities? Scores organisms on each of them; the table goes to docs/truth.md.

    python bench/abilities.py                    # all: about 40,000 samples, a quarter of an hour on two idle cores
    python bench/abilities.py naming ...         # some; the others' rows stay as they were
    python bench/abilities.py --organism FOLDER  # another organism, in a column of its own

Leans and rates have a bench of their own (`bench/truth.py`). Writes bench/results/abilities.json, the table, and its
headlines in the README. Exit code 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _tables import write_tables
from scalex.truth import available, score_organism

RESULTS = Path(__file__).parent / "results" / "abilities.json"

Scores = dict[str, dict[str, list[dict[str, Any]]]]  # by organism and ability


def main() -> int:
    """Scores each of the named abilities, all where none is named; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ABILITY", help=", ".join(available()))
    parser.add_argument("--organism", type=Path, metavar="FOLDER", help="by default the embedded one")
    asked = parser.parse_args()
    title = asked.organism.name if asked.organism else "embedded"
    held: Scores = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    own = held.setdefault(title, {})
    for name in asked.names or available():
        own[name] = [mark.row() for mark in score_organism(asked.organism, _folder(title), only=[name])]
        held[title] = own = dict(sorted(own.items()))
        RESULTS.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
    columns = {title: [row for rows in scores.values() for row in rows] for title, scores in held.items()}
    print(write_tables("abilities", columns))
    return int(not all(row["ok"] for row in columns[title]))


def _folder(title: str) -> Path:
    return Path("runs") / ("score-abilities" if title == "embedded" else f"score-abilities-{title}")


if __name__ == "__main__":
    sys.exit(main())
