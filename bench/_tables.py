"""Where tables of figures stand: all of them in docs/truth.md, the few that say most in the README."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scalex.truth import markdown

__all__ = ["HEADLINES", "write_tables"]

ROOT = Path(__file__).parent.parent
Columns = Mapping[str, Sequence[Mapping[str, Any]]]

HEADLINES: Mapping[str, Sequence[str]] = {
    "truth": (
        "lean, gender, picture reading: Spearman with realised",
        "lean, tone, picture reading: Spearman with realised",
        "lean, gender, picture reading: sign right where the share is 0.1 from even",
        "lean, tone, picture reading: sign right where the share is 0.1 from even",
        "rate, gender: mean absolute error",
        "rate, tone: mean absolute error",
        "rate, gender: 95 % intervals cover",
        "rate, tone: 95 % intervals cover",
        "controls, gender, picture: false alarms",
        "controls, tone, picture: false alarms",
    ),
    "abilities": (
        "associations, picture: precision of what stands out",
        "associations, text: precision of what stands out",
        "clusters: ARI with 56 concepts, 672 wordings, picture reading, HDBSCAN",
        "compare, one model, other seeds: false movers of 95",
        "compare, a LoRA on 'pilot': found, by lean and share of the pictures",
        "descriptors, gender, picture reading: Spearman of pull with planted, 14 adjectives",
        "descriptors, tone, picture reading: Spearman of pull with planted, 12 adjectives",
        "discovery: gender recovered by any method, the greater of |cos| / 0.6 or AUROC / 0.9",
        "explaining, 3 networks with the shortcut: gender ranks first",
        "images, pictures drawn of 120 prompts: given their own name",
        "mitigation, gender to 0.5, 14 roles, mitigated: |share - target|",
        "mitigation, gender to 0.5, 14 roles, mitigated: concept kept",
        "naming, text reading: planted directions named right, of 429",
        "naming, text reading: random directions left unnamed, of 400",
        "steering, gender: read as the second value at alpha 1 from the first",
        "steering, tone: read as the second value at alpha 1 from the first",
        "steering, tone: pictures that random directions change",
    ),
}
"""By block, the figures that the README shows."""


def write_tables(block: str, scores: Columns) -> str:
    """Puts the whole table into docs/truth.md and its headlines into the README, between the block's marks, with how
    many marks there are and how many are missed. Returns the whole table.

    Raises:
        KeyError: a headline is no figure.
    """
    table = markdown(scores)
    _put(ROOT / "docs" / "truth.md", block, table)
    known = {row["name"] for rows in scores.values() for row in rows}
    if lost := [name for name in HEADLINES[block] if name not in known]:
        raise KeyError(f"no figure is named {lost[0]!r}")
    short = {t: [row for row in rows if row["name"] in HEADLINES[block]] for t, rows in scores.items()}
    marks = [row for rows in scores.values() for row in rows if row["mark"]]
    missed = sum(not row["ok"] for row in marks)
    said = (
        f"Of {len(marks)} figures with a mark {missed} miss it; these are some of them, [all are here](docs/truth.md)."
    )
    _put(ROOT / "README.md", block, f"{markdown(short)}\n\n{said}")
    return table


def _put(file: Path, block: str, text: str) -> None:
    between = re.compile(rf"(<!-- {block} -->\n).*?(\n<!-- /{block} -->)", re.DOTALL)
    old = file.read_text(encoding="utf-8")
    if not between.search(old):
        raise ValueError(f"{file} has no place for {block}")
    file.write_text(between.sub(lambda m: m[1] + text + m[2], old), encoding="utf-8")
