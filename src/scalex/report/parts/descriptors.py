"""What the report shows of descriptors: which words go with whom, as a sentence, a heat map and lists of both ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from scalex.analyses.descriptors import NAME, PULL, WEAT
from scalex.report import manifest as manifests
from scalex.report import numbers, words
from scalex.report.heatmap import Cell, Heat, drawn
from scalex.report.parts._choices import counted
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import Figure
from scalex.report.theme import inline_svg

__all__ = ["NAME", "ORDER", "panel"]

ORDER = 10
_MOST = 60  # rows of a heat map
_ENDS = 6  # words listed at each end
_NAMED = 2  # words named at each end in the heading, and in a sentence twice as many
_COLOURS = (
    "Colours: teal goes with the first of two values, or against an identity; ochre goes with the second, or with the "
    "identity; the stronger, the further. Bold numbers are beyond doubt after correction."
)
_READ = {"picture": words.SHOWS, "text": words.SAYS}


class _Axis(NamedTuple):
    """A column of the heat map: an identity, or the contrast of two values."""

    attribute: str
    value: str
    other: str  # what goes the other way: the first of two values, else empty

    @property
    def label(self) -> str:
        return f"{self.other} or {self.value}" if self.other else self.value

    @property
    def away(self) -> str:
        return f"with {self.other}" if self.other else f"against {self.value}"


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """Which descriptors go with which identity; None where nothing was held against anybody."""
    pulls = findings[(findings["unit"] == PULL) & (findings["value"] != "")]
    if not len(pulls):
        return None
    held = [r for r in _READ if (pulls["reading"] == r).any()]
    main = pulls[pulls["reading"] == held[0]]
    axes = _axes(main, manifests.attribute_values(manifest))
    short = _shortened([str(t) for t in main["target"].unique()])
    said = [_sentence(main, axis, short) for axis in axes]
    groups = findings[(findings["unit"] == WEAT) & (findings["reading"] == held[0])]
    return Panel(
        title="Descriptors",
        heading=_heading(main, axes, short),
        paragraphs=tuple(filter(None, [*said, _of_groups(groups, axes), _parting(pulls, axes, short, held)])),
        figures=tuple(_figures(pulls, axes, short, held)),
        listings=(
            *_listings(main, tables.get((held[0], "effects")), axes, short),
            *_sensitivity(tables.get((held[0], "sensitivity"))),
        ),
        notes=(_measure(manifest, axes), _COLOURS),
    )


def _axes(rows: pd.DataFrame, spec: Mapping[str, Sequence[str]]) -> list[_Axis]:
    found = rows[["attribute", "value"]].drop_duplicates()
    pairs = {name: values[0] for name, values in spec.items() if len(values) == 2}
    return [_Axis(str(a), str(v), pairs.get(a, "")) for a, v in zip(found["attribute"], found["value"])]


def _shortened(names: Sequence[str]) -> dict[str, str]:
    """Names without the last word that all of them share: `bossy` for "bossy person"."""
    tails = {name.rpartition(" ")[2] for name in names}
    common = len(names) > 1 and len(tails) == 1 and all(" " in name for name in names)
    return {name: name.rpartition(" ")[0] if common else name for name in names}


# ---------------------------------------------------------------------------------------------------- sentences


def _sides(rows: pd.DataFrame, axis: _Axis) -> tuple[list[str], list[str]]:
    """Descriptors that go with the identity and those that go the other way, the furthest first."""
    own = _own(rows, axis)
    own = own[own["verdict"].str.startswith("goes")].sort_values("estimate", kind="stable")
    return list(own.loc[own["estimate"] > 0, "target"])[::-1], list(own.loc[own["estimate"] < 0, "target"])


def _own(rows: pd.DataFrame, axis: _Axis) -> pd.DataFrame:
    return rows[(rows["attribute"] == axis.attribute) & (rows["value"] == axis.value)]


def _heading(rows: pd.DataFrame, axes: Sequence[_Axis], short: Mapping[str, str]) -> str:
    sides = {axis: _sides(rows, axis) for axis in axes}
    best = max(axes, key=lambda axis: sum(map(len, sides[axis])))
    towards, away = ([words.isolated(short[t]) for t in side[:_NAMED]] for side in sides[best])
    said = [f"{words.joined(towards)} {_go(towards)} with {best.value}"] if towards else []
    if away:
        said.append(f"{words.joined(away)} {best.away}" if said else f"{words.joined(away)} {_go(away)} {best.away}")
    if said:
        return words.capital(", ".join(said))
    if (rows["verdict"] == "not expressed").all():
        return "Nothing can be said of descriptors: the model does not express the identities"
    return "No descriptor goes with an identity beyond doubt"


def _go(names: Sequence[str]) -> str:
    return "goes" if len(names) == 1 else "go"


def _sentence(rows: pd.DataFrame, axis: _Axis, short: Mapping[str, str]) -> str:
    """How the verdicts divide, and who is at both ends."""
    own, (towards, away) = _own(rows, axis), _sides(rows, axis)
    head = f"Of {numbers.plural(len(own), 'descriptor')}, held against {axis.label}:"
    if (own["verdict"] == "not expressed").all():
        return f"{head} nothing can be said, since the model does not express it."
    parts = [
        f"{len(side)} {_go(side)} {way} ({_some(side, short)})"
        for side, way in ((towards, f"with {axis.value}"), (away, axis.away))
        if side
    ]
    neither = int((own["verdict"] == "neither").sum())
    beyond = int((own["verdict"] == "not comparable").sum())
    rest = len(own) - len(towards) - len(away) - neither - beyond
    parts += [f"{neither} {'goes' if neither == 1 else 'go'} neither way"] * bool(neither)
    parts += [f"{rest} {'is' if rest == 1 else 'are'} undecided"] * bool(rest)
    parts += [f"{beyond} {'changes' if beyond == 1 else 'change'} too much else to be compared"] * bool(beyond)
    return f"{head} {words.joined(parts)}."


def _some(names: Sequence[str], short: Mapping[str, str]) -> str:
    shown = [words.isolated(short[name]) for name in names[: 2 * _NAMED]]
    return words.joined([*shown, f"{len(names) - len(shown)} more"] if len(names) > len(shown) else shown)


def _of_groups(rows: pd.DataFrame, axes: Sequence[_Axis]) -> str:
    """Which groups of words part from the others; empty where no group was large enough."""
    if not len(rows):
        return ""
    said = []
    for axis in axes:
        own = _own(rows, axis)
        for row in own[own["verdict"].str.startswith("goes")].sort_values("estimate").to_dict("records")[::-1]:
            group = str(row["target"]).rpartition(": ")[2]
            said.append(f"words of {group} {str(row['verdict']).replace('goes', 'go')} (d {_signed(row['estimate'])})")
    if not said:
        tested = numbers.plural(rows["target"].nunique(), "group")
        return f"Taken in groups, words part no more than chance would divide them ({tested} tested)."
    return f"Taken in groups, {words.joined(said)}, beyond what chance would divide."


def _parting(rows: pd.DataFrame, axes: Sequence[_Axis], short: Mapping[str, str], held: Sequence[str]) -> str:
    """Where words and picture come to different answers, of which both are sure."""
    if len(held) < 2:
        return ""
    keys = ["target", "attribute", "value"]
    shown, told = (rows[rows["reading"] == r].set_index(keys)["verdict"] for r in ("picture", "text"))
    sure = [v.str.startswith("goes") | (v == "neither") for v in (shown, told)]
    apart = [key for key in shown.index if sure[0][key] and sure[1][key] and shown[key] != told[key]]
    if not apart:
        return "Words and picture never contradict each other where both are sure."
    alike: dict[tuple[str, str], list[str]] = {}
    for key in apart:
        alike.setdefault((told[key], shown[key]), []).append(str(key[0]))
    said = [
        f"{_some(names, short)} {_plain(by_words, names)} by the words and {_plain(by_picture, names)} in pictures"
        for (by_words, by_picture), names in sorted(alike.items(), key=lambda found: -len(found[1]))
    ]
    return f"Words and picture part: {'; '.join(said)}."


def _plain(verdict: str, names: Sequence[str]) -> str:
    """A verdict as what one or many do: `goes with woman`, `go neither way`."""
    return f"{_go(names)} {verdict.removeprefix('goes ') if verdict != 'neither' else 'neither way'}"


def _measure(manifest: Mapping[str, Any], axes: Sequence[_Axis]) -> str:
    named = manifests.asked(manifest, "reference")
    start = f"“{words.isolated(str(named))}”" if named else "the mean of all that is compared"
    ends = "1 as far as the identity itself"
    if any(axis.other for axis in axes):
        ends += "; of two values −1 is the first and +1 the second"
    return (
        f"The number is how far a descriptor takes a picture from {start}: 0 not at all, {ends}. “Neither” means that "
        "the whole interval lies close to 0. The starting point is the key `reference` of the spec."
    )


# ---------------------------------------------------------------------------------------------------- figures


def _figures(
    rows: pd.DataFrame, axes: Sequence[_Axis], short: Mapping[str, str], held: Sequence[str]
) -> Iterator[Figure]:
    """A heat map a reading; those after the first are folded away, and in its order where they hold the same.

    What is not comparable on any identity is left out: it would be a row of dashes.
    """
    order: Heat | None = None
    first: set[str] = set()
    for reading in held:
        own = rows[rows["reading"] == reading]
        known = set(own.loc[own["verdict"] != "not comparable", "target"])
        cells = list(_cells(own[own["target"].isin(known)], axes, short))
        if not cells:
            continue
        order, first = (order, first) if order and known == first else (Heat.ordered(cells, _MOST), known)
        label = f"{_READ[reading]}: how far each descriptor goes with each identity. The lists below hold the numbers."
        wide, narrow = (inline_svg(drawn(cells, order, width), label) for width in (1032, 354))
        number = len({cell.row for cell in cells})
        some = f", the {_MOST} furthest of {number}" if number > _MOST else ""
        figure = Figure(f"{_READ[reading]}: which descriptor goes with whom{some}", wide, narrow)
        yield figure if reading == held[0] else replace(figure, folded="The same by the other reading")


def _cells(rows: pd.DataFrame, axes: Sequence[_Axis], short: Mapping[str, str]) -> Iterator[Cell]:
    for axis in axes:
        for row in _own(rows, axis).to_dict("records"):
            name = short[str(row["target"])]
            at, sure = float(row["estimate"]), str(row["verdict"]).startswith("goes")
            span = numbers.interval(row["low"], row["high"], PULL)
            said = f"{name}, {axis.label}: {_signed(at)} ({span}), {row['verdict']}"
            yield Cell(name, axis.label, at, sure, said if not math.isnan(at) else f"{said}: {row['reason']}")


def _signed(number: float) -> str:
    return numbers.estimate(number, PULL)


def _listings(
    rows: pd.DataFrame, effects: pd.DataFrame | None, axes: Sequence[_Axis], short: Mapping[str, str]
) -> Iterator[Listing]:
    """Both ends of every ranking; where there are many identities, folded away."""
    columns = ("descriptor", "how far", "interval", "q", "verdict", "cosine")
    for axis in axes:
        own = _own(rows, axis).dropna(subset="estimate").sort_values("estimate", ascending=False, kind="stable")
        if not len(own):
            continue
        shown = own if len(own) <= 2 * _ENDS else pd.concat([own.head(_ENDS), own.tail(_ENDS)])
        extra = _extra(effects, axis)
        lines = tuple(_line(row, short, extra.get(str(row["target"]))) for row in shown.to_dict("records"))
        left = len(own) - len(shown)
        gap = ((f"⋯ {left} more", *[""] * (len(columns) - 1)),) if left else ()
        lines = (*lines[:_ENDS], *gap, *lines[_ENDS:]) if gap else lines
        heading = f"{words.capital(axis.label)}: both ends of the ranking"
        folded = heading if len(axes) > 4 else ""
        yield Listing("" if folded else heading, columns, lines, frozenset({1, 2, 3, 5}), folded)


def _sensitivity(moved: pd.DataFrame | None) -> Iterator[Listing]:
    """How far pulls move with choices that should not matter; nothing in runs that have no such table."""
    if moved is not None and len(moved):
        rows = moved.assign(value=moved["choice"], estimate=moved["change"], unit=f"{PULL} difference")
        yield counted(rows, "What is varied, and by how much pulls move")


def _extra(effects: pd.DataFrame | None, axis: _Axis) -> dict[str, Mapping[Any, Any]]:
    own = [] if effects is None else _own(effects, axis).to_dict("records")
    return {str(row["target"]): row for row in own}


def _line(row: Mapping[Any, Any], short: Mapping[str, str], extra: Mapping[Any, Any] | None) -> tuple[str, ...]:
    span = numbers.interval(row["low"], row["high"], PULL)
    cosine = _signed(float(extra["cosine"])) if extra else numbers.UNKNOWN
    q = numbers.probability(row["q"])
    return short[str(row["target"])], _signed(row["estimate"]), span, q, str(row["verdict"]), cosine
