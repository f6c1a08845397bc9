"""Analyses: an open set. Each module of this folder takes latents and gives findings.

A module offers `NAME`, `READINGS` (the readings it takes), `analyse(latents, attributes, rules)` for the findings of
one reading without q and verdict, and `conclude(finding, attributes, rules)` for the verdict once q is known. One that
holds its readings against each other offers `compare` in place of `analyse`, and is given the latents by reading; one
that leaves tables beside its findings offers `explore`. `ROLES` names the prompts that it takes where those are not the
concepts alone. `VARIANTS` names the roles of which it takes the attributes' values, too, where it does not take those
of concepts and of the reference alike (concepts stand in for a reference that a spec does not name). `EMBEDDINGS` says
whether it takes the text encoder's embeddings, `MEANS = True` that it takes means over seeds alone, so that blocks of
seeds can stand for them where a store keeps moments, `family(finding)` which of its questions a finding answers, where
each is to be corrected by itself, and `planted(rng)` gives data with a known answer, for the tests.

Where an audit adds seeds to undecided concepts (`scalex.sequential`), `BY_CONCEPT = True` says that a concept's own
samples decide its findings, so that it may be analysed beside concepts of fewer seeds, and `DECISIVE = True` (which
implies it) that a concept is waited for while one of its findings is *undecided* with an interval wider than asked, in
units of a lean or a share. `NO_CLAIM` names the verdicts with which it claims nothing, beside `UNCLAIMED`.

Where two models are compared, `between(first, second, attributes, rules)` gives the numbers that both have with the
scores behind them, which are then held against each other seed by seed; with `compare`, it too is given the latents by
reading. Without it findings are matched by their names; `APART` says why these must not be, and
`likened(first, second)` what there is to say of two models' tables.

A new analysis is one new file here, or an entry point in the group `scalex.analyses` of another
distribution; modules whose names begin with an underscore are shared parts.
"""

from __future__ import annotations

import difflib
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from scalex import stats
from scalex.analyses._outcome import Outcome, Scored
from scalex.errors import ScalexError
from scalex.records import ROLES, VARIED, Finding, Latents, Reading, Role, Rules

__all__ = [
    "UNCLAIMED",
    "Analysis",
    "Between",
    "ByReading",
    "Comparison",
    "Outcome",
    "Scored",
    "available",
    "by_concept",
    "check",
    "claims",
    "decisive",
    "embeds",
    "explore",
    "lacking",
    "means",
    "roles",
    "run",
    "variants",
]

GROUP = "scalex.analyses"
UNCLAIMED = ("undecided", "balanced", "not expressed")  # the verdicts of any analysis that claim nothing


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
class Exploration(Protocol):
    """An analysis of one reading at a time that leaves tables beside its findings."""

    def explore(self, latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Outcome:
        """The findings of one reading (as for `analyse`), and tables by name."""


@runtime_checkable
class Between(Protocol):
    """An analysis whose numbers two models can be compared in, by the scores behind them."""

    def between(
        self, first: Any, second: Any, attributes: Mapping[str, Sequence[str]], rules: Rules
    ) -> Iterable[Scored]:
        """The numbers that both models have, in one reading; `first` and `second` are what `analyse` or `compare` is
        given, of the same prompts in the same order."""


@runtime_checkable
class Analysis(Protocol):
    """What every module of the set offers, besides `analyse`, `compare` or `explore`."""

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
        missing += [] if isinstance(member, ByReading | Comparison | Exploration) else ["analyse"]
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


def roles(names: Iterable[str]) -> tuple[Role, ...]:
    """The roles of the prompts that the named analyses take, in the order of `ROLES`.

    Raises:
        ScalexError: an unknown analysis.
    """
    taken = {role for name in names for role in getattr(_named(name), "ROLES", ROLES[:1])}
    return tuple(role for role in ROLES if role in taken)


def variants(names: Iterable[str]) -> tuple[Role, ...]:
    """The roles whose prompts the named analyses take with the values of attributes, too, in the order of `ROLES`.

    Raises:
        ScalexError: an unknown analysis.
    """
    taken = {role for name in names for role in getattr(_named(name), "VARIANTS", VARIED)}
    return tuple(role for role in VARIED if role in taken)


def embeds(names: Iterable[str]) -> bool:
    """Whether any of the named analyses takes the text encoder's embeddings (it says `EMBEDDINGS = True`).

    Raises:
        ScalexError: an unknown analysis.
    """
    return any(getattr(_named(name), "EMBEDDINGS", False) for name in names)


def by_concept(names: Iterable[str]) -> list[str]:
    """Those of the named analyses that take a concept by itself (`BY_CONCEPT` or `DECISIVE`).

    Raises:
        ScalexError: an unknown analysis.
    """
    return [name for name in names if _says(name, "BY_CONCEPT") or _says(name, "DECISIVE")]


def means(names: Iterable[str]) -> list[str]:
    """Those of the named analyses that take means over seeds alone (`MEANS`), and so the moments of a store.

    Raises:
        ScalexError: an unknown analysis.
    """
    return [name for name in names if _says(name, "MEANS")]


def decisive(names: Iterable[str]) -> list[str]:
    """Those of the named analyses whose verdicts a concept is waited for (`DECISIVE`).

    Raises:
        ScalexError: an unknown analysis.
    """
    return [name for name in names if _says(name, "DECISIVE")]


def _says(name: str, attribute: str) -> bool:
    return bool(getattr(_named(name), attribute, False))


def claims(findings: Sequence[Finding]) -> list[bool]:
    """Which findings claim an effect by their verdicts: not `UNCLAIMED`, nor `NO_CLAIM` of their analysis.

    Raises:
        ScalexError: a finding of an unknown analysis.
    """
    names = {f.analysis for f in findings}
    nothing = {name: {*UNCLAIMED, *getattr(_named(name), "NO_CLAIM", ())} for name in names}
    return [f.verdict not in nothing[f.analysis] for f in findings]


def run(
    names: Sequence[str],
    latents: Mapping[Reading, Latents],
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    settled: Sequence[Finding] = (),
) -> list[Finding]:
    """The findings of `explore`."""
    return explore(names, latents, attributes, rules, settled).findings


def explore(
    names: Sequence[str],
    latents: Mapping[Reading, Latents],
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    settled: Sequence[Finding] = (),
) -> Outcome:
    """The findings of the named analyses over all captured readings they take, corrected and concluded, and tables.

    The family of a correction is all tests of one analysis in one reading: every target, attribute and value with a p
    (of one `family(finding)`, where the analysis says that it answers several questions).
    (The words are read with far less noise than pictures. Corrected together, their many sure findings would let
    doubtful ones of the picture pass: Efron 2008, Annals of Applied Statistics 2: 197-223.) An attribute of two values
    holds one test however many rows it has, since their shares sum to one. An analysis that tests more than it reports
    corrects over all of that itself: a q that a finding brings stays. `settled` are findings of other targets, from an
    earlier look: they are in the family with the p that they bring (and no q), and are not given back.

    Tables are named `ANALYSIS-READING-TABLE`.

    Raises:
        ScalexError: an unknown analysis, one whose readings were not captured, or what the analysis raises.
    """
    block = max((held.block for held in latents.values()), default=1)
    chosen = check(names, tuple(latents), block)
    outcomes = [_run_one(analysis, latents, attributes, rules, settled) for analysis in chosen]
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    return Outcome(findings, {name: table for outcome in outcomes for name, table in outcome.tables.items()})


def check(names: Sequence[str], readings: Sequence[Reading], block: int = 1) -> list[Analysis]:
    """The named analyses.

    Args:
        block: of how many seeds there is the mean alone.

    Raises:
        ScalexError: an unknown analysis, one that takes readings other than these, or one that takes single seeds.
    """
    chosen = [_named(name) for name in names]
    if block > 1 and (single := [name for name in names if name not in means(names)]):
        wrong = f"analysis {single[0]!r} takes single seeds, and moments keep the means of {block} alone"
        raise ScalexError(wrong, f"Leave out `moments`, or {single[0]}: {', '.join(means(available()))} take means")
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
    analysis: Analysis,
    latents: Mapping[Reading, Latents],
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    settled: Sequence[Finding],
) -> Outcome:
    found, tables = _raw(analysis, latents, attributes, rules)
    family = [*found, *(f for f in settled if f.analysis == analysis.NAME)]
    corrected = _corrected(family, attributes, getattr(analysis, "family", _whole))[: len(found)]
    return Outcome([analysis.conclude(f, attributes, rules) for f in corrected], tables)


def _raw(
    analysis: Analysis, latents: Mapping[Reading, Latents], attributes: Mapping[str, Sequence[str]], rules: Rules
) -> Outcome:
    """What an analysis finds, before correction."""
    if isinstance(analysis, Comparison):
        return Outcome(analysis.compare({r: latents[r] for r in analysis.READINGS}, attributes, rules), {})
    readings = [r for r in analysis.READINGS if r in latents]
    if not isinstance(analysis, Exploration):
        each = cast(ByReading, analysis)
        return Outcome([f for r in readings for f in each.analyse(latents[r], attributes, rules)], {})
    outcomes = {r: analysis.explore(latents[r], attributes, rules) for r in readings}
    named = {f"{analysis.NAME}-{r}-{name}": table for r, o in outcomes.items() for name, table in o.tables.items()}
    return Outcome([f for o in outcomes.values() for f in o.findings], named)


def _corrected(
    found: list[Finding], attributes: Mapping[str, Sequence[str]], family: Callable[[Finding], str]
) -> list[Finding]:
    """The findings with q, by Benjamini-Hochberg over the tests of each reading and family. A q that is there stays."""
    tests = [_test(i, f, attributes) for i, f in enumerate(found)]
    own = [(f.reading, family(f)) for f in found]
    q: dict[tuple[object, ...], float] = {}
    for one in dict.fromkeys(own):
        p = {test: f.p for test, f, other in zip(tests, found, own) if other == one and math.isnan(f.q)}
        q |= zip(p, map(float, stats.benjamini_hochberg(np.array(list(p.values()), dtype=np.float64))))
    return [replace(f, q=q[test]) if math.isnan(f.q) else f for test, f in zip(tests, found)]


def _whole(finding: Finding) -> str:
    """The family where all tests of a reading answer one question."""
    return ""


def _test(index: int, finding: Finding, attributes: Mapping[str, Sequence[str]]) -> tuple[object, ...]:
    """What names the test behind a row. The two rows of a two-valued attribute are one test."""
    values = attributes.get(finding.attribute, ())
    if len(values) == 2 and finding.value in values:
        return finding.reading, finding.target, finding.attribute, finding.unit
    return (index,)
