"""How true are the findings? Scores organisms and puts the table into the README.

    python bench/truth.py                 # the embedded organism
    python bench/truth.py ORGANISM ...    # others

Columns of organisms that are not scored now stay as they were. Writes bench/results/truth.json and the
README's truth table. Exit code 1 where a mark is missed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from scalex.truth import markdown, score_organism

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "truth.json"
BLOCK = re.compile(r"(<!-- truth -->\n).*?(\n<!-- /truth -->)", re.DOTALL)
SEEDS = (32, 128)  # the default of an audit, and that of a score


def main(folders: list[Path]) -> int:
    """Scores each organism, the embedded one where none is named; returns the exit code."""
    new = {f"{_name(f)}, {n} seeds": _score(f, n) for f in folders or [None] for n in SEEDS}
    scores = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    scores |= new
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    table, readme = markdown(scores), ROOT / "README.md"
    readme.write_text(BLOCK.sub(rf"\1{table}\2", readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(table)
    return int(not all(row["ok"] for rows in new.values() for row in rows))


def _name(folder: Path | None) -> str:
    return folder.name if folder else "embedded"


def _score(folder: Path | None, seeds: int) -> list[dict[str, Any]]:
    """In one folder for all seeds: what was captured and drawn is not captured and drawn again."""
    return [mark.row() for mark in score_organism(folder, Path("runs") / f"score-{_name(folder)}", seeds=seeds)]


if __name__ == "__main__":
    sys.exit(main([Path(folder) for folder in sys.argv[1:]]))
