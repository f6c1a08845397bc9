"""The latents of an audit as they would be if a choice had been made otherwise: the settings of that choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from scalex.records import Latents, Prompt, Role

__all__ = ["Setting", "said", "settings", "without"]


class Setting(NamedTuple):
    """A choice made in one way. `latents` are those of an audit that had made it so."""

    choice: str
    name: str
    latents: Latents


def settings(latents: Latents, roles: Sequence[Role] = ("concept",)) -> Iterator[Setting]:
    """Each template alone, the other wording of the values, and each kept step, where these latents vary them.

    Args:
        roles: of the prompts that are kept.
    """
    yield from _templates(latents, roles)
    other = _reworded(latents)
    if other:
        yield Setting("wording", "other wording", _only(latents, *other))
    if len(latents.steps) > 1:
        for k, step in enumerate(latents.steps):
            yield Setting("step", f"step {step + 1}", replace(latents, values=latents.values[:, :, [k]], steps=(step,)))


def without(latents: Latents, role: Role) -> Latents:
    """The latents less the prompts of one role."""
    rows = [i for i, p in enumerate(latents.prompts) if p.role != role]
    return _only(latents, rows, [latents.prompts[i] for i in rows])


def said(latents: Latents, attribute: str, values: Sequence[str]) -> bool:
    """Whether every concept was said with every one of these values."""
    held = {(p.concept, p.value) for p in latents.prompts if (p.role, p.attribute) == ("concept", attribute)}
    return all((concept, value) in held for concept in latents.concepts for value in values)


def _templates(latents: Latents, roles: Sequence[Role]) -> Iterator[Setting]:
    kept = [(i, p) for i, p in enumerate(latents.prompts) if p.role in roles]
    cells = [list(rows) for _, rows in groupby(sorted(kept, key=_cell), key=_cell)]
    names = [p.template for p in latents.prompts if (p.role, p.concept, p.attribute) == _neutral(latents)]
    for t, name in enumerate(names if len(names) > 1 else ()):
        rows = sorted(cell[t][0] for cell in cells if t < len(cell))
        yield Setting("template", repr(name), _only(latents, rows, [latents.prompts[i] for i in rows]))


def _cell(row: tuple[int, Prompt]) -> tuple[str, ...]:
    p = row[1]
    return p.role, p.concept, p.attribute, p.value


def _neutral(latents: Latents) -> tuple[str, str, str]:
    return "concept", latents.concepts[0], ""


def _reworded(latents: Latents) -> tuple[list[int], list[Prompt]] | None:
    """Rows and prompts of the neutral concepts, and of their variants in another wording as if it were the first."""
    there = [(i, p) for i, p in enumerate(latents.prompts) if p.role == "wording"]
    if not there:
        return None
    there += [(i, p) for i, p in enumerate(latents.prompts) if p.role == "concept" and not p.attribute]
    return [i for i, _ in there], [replace(p, role="concept") for _, p in there]


def _only(latents: Latents, rows: Sequence[int], prompts: Sequence[Prompt]) -> Latents:
    return replace(latents, values=latents.values[np.array(rows)], prompts=tuple(prompts), embeddings=None)
