"""How true are the findings? Scores organisms and puts the table into the README.

    python bench/truth.py                 # the embedded organism
    python bench/truth.py ORGANISM ...    # others beside it, a column each

Writes bench/results/truth.json and the README's truth table. Exit code 1 where a mark is missed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from scalex.organisms.marks import Mark
from scalex.truth import markdown, score_organism

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- truth -->\n).*?(\n<!-- /truth -->)", re.DOTALL)


def main(folders: list[Path | None]) -> int:
    """Scores each organism at 32 seeds, the default of an audit, and at 128; returns the exit code."""
    scores = {_name(folder, seeds): _score(folder, seeds) for folder in folders for seeds in (32, 128)}
    results = {name: [m.row() for m in marks] for name, marks in scores.items()}
    out = ROOT / "bench" / "results" / "truth.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = markdown(scores)
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(rf"\1{table}\2", readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(table)
    return int(not all(m.ok for marks in scores.values() for m in marks))


def _name(folder: Path | None, seeds: int) -> str:
    return f"{folder.name if folder else 'embedded'}, {seeds} seeds"


def _score(folder: Path | None, seeds: int) -> list[Mark]:
    """In one folder for all seeds: what was captured and drawn is not captured and drawn again."""
    return score_organism(folder, Path("runs") / f"score-{folder.name if folder else 'embedded'}", seeds=seeds)


if __name__ == "__main__":
    sys.exit(main([None, *map(Path, sys.argv[1:])]))
