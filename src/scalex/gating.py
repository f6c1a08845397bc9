"""A gate for releases: the findings of a run against limits, as a table and as JUnit XML.

Two questions can be put, and they differ by who must prove what. By default a limit is *broken* only where the run
shows it: the whole interval lies beyond, after correction for as many limits as were checked (Bonferroni: of all gates
at whose every limit the model keeps, at most 1 - level are closed in error). A *strict* gate asks for proof of
compliance: a limit is *kept* only where the whole interval lies within. All must be kept, so that this needs no
correction (an intersection-union test: Berger 1982, Technometrics 24: 295-300). What lies between is *open*: more seeds
would tell. It passes the one gate and not the other. What a model does not express is *skipped*, never passed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from xml.etree import ElementTree

import pandas as pd
from scipy.stats import norm

from scalex import runs
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.prompts import load_spec
from scalex.records import READINGS
from scalex.report import numbers, views
from scalex.wording import did_you_mean

__all__ = ["Checked", "Gate", "State", "check", "junit"]

State: TypeAlias = Literal["broken", "open", "kept", "skipped"]
_KINDS = {"lean": ("defaults", ("lean", "weight")), "rate": ("rates", ("share",))}  # limit: analysis, units
_CONTROL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


@dataclass(frozen=True)
class Checked:
    """One limit and what the run says of it: `off` is the estimate less its neutral point; so are `low` and `high`."""

    state: State
    limit: float
    kind: str
    reading: str
    concept: str
    attribute: str
    value: str
    off: float
    low: float
    high: float
    told: str


@dataclass(frozen=True, repr=False)
class Gate:
    """All limits that were checked: what is broken first.

    Attributes:
        rows: one a limit. passed: whether the gate is open. failed: the limits that close it. summary: in one line.
        strict: whether a limit passes only where it is shown to be kept.
    """

    rows: tuple[Checked, ...]
    strict: bool

    def __repr__(self) -> str:
        """Whether it is open, and the limits in numbers."""
        return f"<Gate{', strict' if self.strict else ''}: {'passed' if self.passed else 'FAILED'}, {self.summary}>"

    @property
    def failed(self) -> tuple[Checked, ...]:
        """The limits that close the gate."""
        closing = ("broken", "open") if self.strict else ("broken",)
        return tuple(row for row in self.rows if row.state in closing)

    @property
    def passed(self) -> bool:
        """Whether the gate is open."""
        return not self.failed

    @property
    def summary(self) -> str:
        """`2 of 40 limits broken, 30 kept, 6 open, 2 skipped`."""
        count = {state: sum(row.state == state for row in self.rows) for state in _ORDER}
        broken = f"{count['broken'] or 'none'} of {numbers.plural(len(self.rows), 'limit')} broken"
        return ", ".join([broken, *(f"{count[s]} {s}" for s in ("kept", "open", "skipped") if count[s])])

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain data; unknown numbers are None."""
        return [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(row).items()}
            for row in self.rows
        ]


_ORDER: tuple[State, ...] = ("broken", "open", "kept", "skipped")


def check(
    run: str | Path,
    *,
    max_lean: float | None = None,
    max_rate_gap: float | None = None,
    on: Sequence[str] = (),
    concepts: Sequence[str] = (),
    reading: str | None = None,
    strict: bool = False,
) -> Gate:
    """Holds the findings of an analysed run against limits.

    Args:
        run: folder of the run.
        max_lean: how far a lean may be from 0. Where an attribute has V values, how far a weight may be from 1/V: the
            limit times 2/V, the same part of parity.
        max_rate_gap: how far the share of pictures that show a value may be from its even part, 1/V: the limit times
            2/V. 0.2 lets a share of two values be from 30 % to 70 %.
        on: the attributes, and concepts: the concepts, that are checked; all where none is named.
        reading: which one's leans; by default the picture's where it was read. Rates are always the picture's.
        strict: whether a limit passes only where the whole interval lies within it; else, where not all of it lies
            beyond, corrected for as many limits as are checked.

    Raises:
        ScalexError: no limit or an impossible one; an attribute or concept that the run does not hold; no finding of
            that kind or reading; or not one that has a number.
    """
    limits = {kind: x for kind, x in (("lean", max_lean), ("rate", max_rate_gap)) if x is not None}
    _check_limits(limits)
    if reading is not None and reading not in READINGS:
        raise ScalexError(f"there is no reading {reading!r}", did_you_mean(reading, READINGS, "Readings"))
    folder, manifest = runs.read_manifest(run)
    spec = load_spec(manifest["spec"])
    findings = runs.read_findings(folder)
    for what, asked, known in (("attribute", on, spec.attribute_values), ("concept", concepts, set(findings.target))):
        for name in asked:
            if name not in known:
                raise ScalexError(f"the run has no {what} {name!r}", did_you_mean(name, known, f"{what.capitalize()}s"))
    chosen = {kind: _held(findings, kind, on, concepts, reading if kind == "lean" else None, folder) for kind in limits}
    stretch = _stretch(sum(map(len, chosen.values())), spec.rules.level)
    rows = [
        _checked(row, kind, limits[kind], spec.attribute_values, stretch)
        for kind, held in chosen.items()
        for row in views.records(held)
    ]
    if all(row.state == "skipped" for row in rows):
        raise ScalexError("there is nothing to check: no finding has a number", f"See why in {folder}/report.html")
    ranked = sorted(rows, key=lambda row: (_ORDER.index(row.state), 0.0 if math.isnan(row.off) else -abs(row.off)))
    return Gate(tuple(ranked), strict)


def _check_limits(limits: Mapping[str, float]) -> None:
    if not limits:
        raise ScalexError("no limit is given", "Add --max-lean 0.25, or --max-rate-gap 0.25")
    for kind, limit in limits.items():
        if not 0 < limit <= 1:
            name = "--max-lean" if kind == "lean" else "--max-rate-gap"
            raise ScalexError(f"{name} is {limit:g}, but a limit is above 0 and at most 1", "Try 0.25")


def _held(
    findings: pd.DataFrame,
    kind: str,
    on: Sequence[str],
    concepts: Sequence[str],
    reading: str | None,
    folder: Path,
) -> pd.DataFrame:
    """The findings that a limit speaks of: one for two values (both say the same), one a value for more."""
    analysis, units = _KINDS[kind]
    own = findings[(findings.analysis == analysis) & findings.unit.isin(units)]
    there = [r for r in READINGS if r in set(own.reading)]
    if not there or (reading and reading not in there):
        which = f" by the {reading} reading" if reading else ""
        raise ScalexError(f"{folder} holds no findings of {analysis}{which}", f"Run: scalex analyze {folder}")
    own = own[own.reading == (reading or there[-1])]
    own = own[own.attribute.isin(on or own.attribute) & own.target.isin(concepts or own.target)]
    if own.empty:
        raise ScalexError(f"{folder} holds no findings of {analysis} on that", "Name another attribute or concept")
    count = own.groupby(["target", "attribute"]).value.transform("size")
    last = own.groupby(["target", "attribute"]).value.transform("last")
    return own[(count != 2) | (own.value == last)]


def _stretch(n: int, level: float) -> float:
    """How many times wider an interval is that holds for n limits at once."""
    tail = (1 - level) / 2
    return float(norm.isf(tail / max(1, n)) / norm.isf(tail))


def _checked(
    row: Mapping[str, Any], kind: str, asked: float, attributes: Mapping[str, Sequence[str]], stretch: float
) -> Checked:
    size, unit = len(attributes[row["attribute"]]), str(row["unit"])
    neutral = 0.0 if unit == "lean" else 1 / size
    limit = asked if unit == "lean" else asked * 2 / size
    off, low, high = (float(row[k]) - neutral for k in ("estimate", "low", "high"))
    labels = (kind, row["reading"], row["target"], row["attribute"], row["value"])
    if math.isnan(off + low + high):
        return Checked("skipped", limit, *labels, off, low, high, f"{row['verdict']}: {row['reason']}")
    return Checked(_state(off, low, high, limit, stretch), limit, *labels, off, low, high, _told(row, limit, neutral))


def _state(off: float, low: float, high: float, limit: float, stretch: float) -> State:
    if low >= -limit and high <= limit:
        return "kept"
    beyond = off - stretch * (off - low) > limit or off + stretch * (high - off) < -limit
    return "broken" if beyond else "open"


def _told(row: Mapping[str, Any], limit: float, neutral: float) -> str:
    unit = str(row["unit"])
    named = "lean" if unit == "lean" else f"{unit} of {row['value']}"
    most = [numbers.estimate(neutral + sign * limit, unit) for sign in (-1, 1)]
    span = numbers.interval(row["low"], row["high"], unit)
    return f"{named} {numbers.estimate(row['estimate'], unit)} ({span}), limits {most[0]} and {most[1]}"


# ---------------------------------------------------------------------------------------------------- JUnit


def junit(gate: Gate, path: str | Path, name: str = "scalex check") -> None:
    """Writes the gate as JUnit XML, as CI systems read it: a test case for every limit.

    Limits that close the gate are failures; what is not expressed is skipped.

    Raises:
        ScalexError: the file cannot be written.
    """
    failed = set(map(id, gate.failed))
    skipped = sum(row.state == "skipped" for row in gate.rows)
    count = {"tests": len(gate.rows), "failures": len(failed), "errors": 0, "skipped": skipped}
    labels = {"name": name} | {key: str(number) for key, number in count.items()}
    suites = ElementTree.Element("testsuites", labels)
    suite = ElementTree.SubElement(suites, "testsuite", labels)
    for row, case in zip(gate.rows, _cases(suite, gate.rows)):
        told = _clean(f"{row.state}: {row.told}")
        if id(row) in failed:
            ElementTree.SubElement(case, "failure", message=told, type=row.state).text = told
        elif row.state == "skipped":
            ElementTree.SubElement(case, "skipped", message=told)
        else:
            ElementTree.SubElement(case, "system-out").text = told
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)
    place = Path(path)
    with disk_errors(place.parent, option="--junit"):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _cases(suite: ElementTree.Element, rows: Sequence[Checked]) -> Iterator[ElementTree.Element]:
    for row in rows:
        twice = sum((r.kind, r.attribute, r.concept) == (row.kind, row.attribute, row.concept) for r in rows) > 1
        name = f"{row.concept} ({row.value})" if twice else row.concept
        labels = {"classname": _clean(f"scalex.{row.kind}.{row.attribute}"), "name": _clean(name)}
        yield ElementTree.SubElement(suite, "testcase", labels)


def _clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return _CONTROL.sub("\ufffd", text)
