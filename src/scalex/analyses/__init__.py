"""Analyses: an open set. Each module of this folder takes latents and gives findings.

A module offers `NAME`, `READINGS` (the readings it takes), `analyse(latents, attributes, rules)` for the findings of
one reading without q and verdict, and `conclude(finding, attributes, rules)` for the verdict once q is known. One that
holds its readings against each other offers `compare` in place of `analyse`, and is given the latents by reading. A
new analysis is one new file here, or an entry point in the group `scalex.analyses` of another distribution; modules
whose names begin with an underscore are shared parts.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from scalex import stats
from scalex.errors import ScalexError
from scalex.records import Finding, Latents, Reading, Rules

__all__ = ["Analysis", "available", "check", "lacking", "run"]

GROUP = "scalex.analyses"


@runtime_checkable
class ByReading(Protocol):
    """An analysis of one reading at a time."""

    def analyse(self, latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> list[Finding]:
        """The findings of one reading; q is NaN, and the verdict empty except where nothing can be concluded."""


@runtime_checkable
class Comparison(Protocol):
    """An analysis of its readings against each other, by the same seeds."""

    def compare(
        self, latents: Mapping[Reading, Latents], attributes: Mapping[str, Sequence[str]], rules: Rules
    ) -> list[Finding]:
        """The findings of all readings; q and verdict as for `analyse`."""


@runtime_checkable
class Analysis(Protocol):
    """What every module of the set offers, besides `analyse` or `compare`."""

    NAME: str
    READINGS: tuple[Reading, ...]

    def conclude(self, finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
        """The finding with verdict and reason, once q is known."""


def available() -> dict[str, Analysis]:
    """All analyses by name: those of this folder, then those of other distributions.

    Raises:
        ScalexError: an analysis lacks a part of the contract, or two have one name.
    """
    found: dict[str, Analysis] = {}
    for origin, member in _members():
        missing = [part for part in ("NAME", "READINGS", "conclude") if not hasattr(member, part)]
        missing += [] if isinstance(member, ByReading | Comparison) else ["analyse"]
        if missing:
            raise ScalexError(f"analysis {origin} lacks {', '.join(missing)}", "Repair or uninstall it")
        if member.NAME in found:
            raise ScalexError(f"two analyses are named {member.NAME!r}; the second is {origin}", "Uninstall one")
        found[member.NAME] = cast(Analysis, member)
    return found


def _members() -> Iterator[tuple[str, Any]]:
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if not module.name.startswith("_"):
            name = f"{__name__}.{module.name}"
            yield name, importlib.import_module(name)
    for point in entry_points(group=GROUP):
        yield point.value, point.load()


def run(
    names: Sequence[str], latents: Mapping[Reading, Latents], attributes: Mapping[str, Sequence[str]], rules: Rules
) -> list[Finding]:
    """The findings of the named analyses over all captured readings they take, corrected and concluded.

    The family of a correction is all tests of one analysis in one reading: every target, attribute and value with a p.
    (The words are read with far less noise than pictures. Corrected together, their many sure findings would let
    doubtful ones of the picture pass: Efron 2008, Annals of Applied Statistics 2: 197-223.) An attribute of two values
    holds one test however many rows it has, since their shares sum to one.

    Raises:
        ScalexError: an unknown analysis, one whose readings were not captured, or what the analysis raises.
    """
    chosen = check(names, tuple(latents))
    return [finding for analysis in chosen for finding in _run_one(analysis, latents, attributes, rules)]


def check(names: Sequence[str], readings: Sequence[Reading]) -> list[Analysis]:
    """The named analyses.

    Raises:
        ScalexError: an unknown analysis, or one that takes readings other than these.
    """
    chosen = [_named(name) for name in names]
    for analysis in chosen:
        if missing := lacking(analysis, readings):
            wanted = " or ".join(missing)
            wrong = f"analysis {analysis.NAME!r} takes the {wanted} reading, which is not captured"
            raise ScalexError(wrong, f"Add {wanted} to readings, or take {analysis.NAME} out of analyses")
    return chosen


def lacking(analysis: Analysis, readings: Sequence[Reading]) -> list[Reading]:
    """The readings without which an analysis has nothing to take. Of several it takes what there is."""
    absent = [r for r in analysis.READINGS if r not in readings]
    return absent if len(absent) == len(analysis.READINGS) or isinstance(analysis, Comparison) else []


def _named(name: str) -> Analysis:
    known = available()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise ScalexError(f"unknown analysis {name!r}", f"{guess}Known: {', '.join(known)}")
    return known[name]


def _run_one(
    analysis: Analysis, latents: Mapping[Reading, Latents], attributes: Mapping[str, Sequence[str]], rules: Rules
) -> list[Finding]:
    if isinstance(analysis, Comparison):
        found = analysis.compare({r: latents[r] for r in analysis.READINGS}, attributes, rules)
    else:
        readings = [r for r in analysis.READINGS if r in latents]
        found = [f for r in readings for f in cast(ByReading, analysis).analyse(latents[r], attributes, rules)]
    return [analysis.conclude(f, attributes, rules) for f in _corrected(found, attributes)]


def _corrected(found: list[Finding], attributes: Mapping[str, Sequence[str]]) -> list[Finding]:
    """The findings with q, by Benjamini-Hochberg over the tests of each reading."""
    tests = [_test(i, f, attributes) for i, f in enumerate(found)]
    q: dict[tuple[object, ...], float] = {}
    for reading in dict.fromkeys(f.reading for f in found):
        p = {test: f.p for test, f in zip(tests, found) if f.reading == reading}
        q |= zip(p, map(float, stats.benjamini_hochberg(np.array(list(p.values()), dtype=np.float64))))
    return [replace(f, q=q[test]) for test, f in zip(tests, found)]


def _test(index: int, finding: Finding, attributes: Mapping[str, Sequence[str]]) -> tuple[object, ...]:
    """What names the test behind a row. The two rows of a two-valued attribute are one test."""
    if len(attributes.get(finding.attribute, ())) == 2:
        return finding.reading, finding.target, finding.attribute, finding.unit
    return (index,)
