"""What `scalex mitigate` leaves in its folder beside the mitigation: tables, and pictures before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scalex.disk import disk_errors, write_atomic
from scalex.drawings import Drawings
from scalex.jobs import Job
from scalex.mitigation._evaluating import Evaluation
from scalex.mitigation._grid import save_grid
from scalex.mitigation._mitigation import Mitigation

__all__ = ["notes_of", "write_report"]

_ROWS, _PICTURES = 6, 8  # of the grid


def write_report(
    job: Job, mitigation: Mitigation, found: Evaluation, folder: Path, drawings: Drawings | None = None
) -> list[Path]:
    """Writes `evaluation.json`, `concepts.csv`, `groups.csv` and `grid.png`. Returns their paths.

    The grid shows the concepts that were farthest from their targets. `drawings` keeps its pictures.

    Raises:
        ScalexError: the folder cannot be written.
    """
    texts = {
        "evaluation.json": found.text + "\n",
        "concepts.csv": found.table.to_csv(index=False),
        "groups.csv": found.groups.to_csv(index=False),
    }
    with disk_errors(folder, option="--out"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomic(folder / name, text)
    plain = found.table[found.table["method"] == "unsteered"].sort_values("residual", ascending=False)
    shown = list(plain["concept"].head(_ROWS))
    grid = save_grid(job, mitigation, shown, found.seeds[:_PICTURES], folder / "grid.png", drawings)
    return [*(folder / name for name in texts), grid]


def notes_of(mitigation: Mitigation) -> Iterator[str]:
    """What a user should know of single concepts: those that are not steered, or whose target cannot be reached."""
    for concept, remedy in mitigation.remedies.items():
        if remedy.note:
            yield f"{concept}: {remedy.note}, at {remedy.expected:.2f} where {remedy.target:.2f} is wanted"
