"""A section of the report per attribute: words, charts in two widths, the strongest concepts, and what stays open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import altair as alt
import pandas as pd
from markupsafe import Markup

from scalex.records import Rules
from scalex.report import charts, ledger, views, words
from scalex.report.charts import Layout
from scalex.report.theme import inline_svg
from scalex.report.views import Tally

__all__ = ["FOLD", "NARROW", "WIDE", "Figure", "Part", "Section", "fit", "section"]

FOLD = 40  # entries with pictures before the others are folded away
MOST = 80  # concepts in one chart before only both ends are shown
_END = 25  # concepts shown of each end then
WIDE, NARROW = 1032, 354
_NOTHING = Markup("")
_FEW = 3  # concepts below which a scatter shows nothing
_EACH = 3  # strongest concepts shown with their pictures, for each value


@dataclass(frozen=True)
class Figure:
    """A chart for desktop and print, one for a phone, and their heading. Without `narrow`, `wide` serves both."""

    title: str
    wide: Markup
    narrow: Markup = _NOTHING
    folded: str = ""  # the summary of a closed details element that holds it


@dataclass(frozen=True)
class Part:
    """A piece of the bar that shows how verdicts divide."""

    name: str
    number: int
    look: str
    strength: float = 1.0


@dataclass(frozen=True)
class Section:
    """What the page says of one attribute."""

    attribute: str
    heading: str
    tally: Tally
    margin: float
    summary: str
    furthest: str
    parts: tuple[Part, ...]
    figures: tuple[Figure, ...]
    scatter: Figure | None
    differences: tuple[str, ...]
    strongest: tuple[tuple[str, str, tuple[ledger.Entry, ...]], ...]
    questions: tuple[words.Question, ...]


def section(findings: pd.DataFrame, attribute: str, margin: float, spec: Mapping[str, Sequence[str]]) -> Section:
    """Everything the page says of an attribute."""
    tally = views.tally(findings, attribute, spec)
    own = Rules(margin=margin).margin_of(len(tally.values))
    return Section(
        attribute=attribute,
        heading=words.section_heading(tally),
        tally=tally,
        margin=own,
        summary=words.deck(tally, own),
        furthest=words.strongest(findings, tally),
        parts=tuple(_parts(tally)),
        figures=tuple(_figures(findings, tally, margin, spec)),
        scatter=_scatter(findings, tally, margin),
        differences=tuple(words.differences(findings, tally)),
        strongest=tuple(_strongest(findings, tally, margin, spec)),
        questions=tuple(words.open_questions(findings, tally)),
    )


def _parts(tally: Tally) -> list[Part]:
    """Leans to the first value at the left end, to the last at the right, what is open between them."""
    first, *others = tally.values
    names = [(first, "first"), *((value, "second") for value in others)]
    leans = [Part(f"lean to {v}", len(tally.leaning.get(v, [])), look) for v, look in names]
    if not tally.pair:
        leans = [replace(part, look="second", strength=1 - 0.7 * i / len(leans)) for i, part in enumerate(leans)]
    between = [
        Part("lean away only", len(tally.away), "first"),
        Part("balanced", len(tally.balanced), "balanced"),
        Part("undecided", len(tally.undecided), "undecided"),
        Part("not expressed", len(tally.unexpressed), "none"),
        Part("without a verdict", len(tally.open), "none"),
    ]
    parts = [leans[0], *between, *leans[1:]] if tally.pair else [*leans, *between]
    return [part for part in parts if part.number]


# ---------------------------------------------------------------------------------------------------- charts


def _figures(findings: pd.DataFrame, tally: Tally, margin: float, spec: Mapping[str, Sequence[str]]) -> list[Figure]:
    """The main charts; for more concepts than fit at a glance both ends first and all of them folded away."""
    everyone = views.order(findings, tally.attribute)
    if len(everyone) <= MOST:
        return _drawn(findings, tally, margin, Layout(spec=spec, order=everyone))
    gap = f"⋯ {len(everyone) - 2 * _END} more"
    ends = [*everyone[:_END], gap, *everyone[-_END:]]
    shown = _drawn(findings, tally, margin, Layout(spec=spec, order=ends))
    every = _drawn(findings, tally, margin, Layout(spec=spec, order=everyone, step=17), narrow=False)
    return [*shown, *(replace(figure, folded=f"Show all {len(everyone)} concepts") for figure in every)]


def _drawn(findings: pd.DataFrame, tally: Tally, margin: float, layout: Layout, *, narrow: bool = True) -> list[Figure]:
    draw = _pair if tally.pair else _many
    return draw(findings, tally, margin, layout, narrow)


def _pair(findings: pd.DataFrame, tally: Tally, margin: float, layout: Layout, narrow: bool) -> list[Figure]:
    name = tally.attribute
    leans = len(views.readings(findings, "defaults", name))
    rates = bool(views.readings(findings, "rates", name))
    label = f"Leans and shares of every concept for {name}, with intervals. The table below holds the same numbers."
    wide = charts.overview_chart(findings, name, margin=margin, layout=fit(layout, leans + rates, WIDE))
    title = f"Where each concept stands between {tally.values[0]} and {tally.values[-1]}"
    figure = Figure(title, inline_svg(wide, label))
    if not narrow:
        return [figure]
    small = []
    if leans:
        thin = fit(layout, leans, NARROW)
        small.append(inline_svg(charts.overview_chart(findings, name, margin=margin, rates=False, layout=thin), label))
    if rates:
        small.append(
            inline_svg(charts.rates_chart(findings, name, margin=margin, layout=fit(layout, 1, NARROW)), label)
        )
    return [replace(figure, narrow=Markup("").join(small))]


def _many(findings: pd.DataFrame, tally: Tally, margin: float, layout: Layout, narrow: bool) -> list[Figure]:
    name, number = tally.attribute, len(tally.values)
    wide, thin = fit(layout, min(number, 5), WIDE), fit(layout, 3 if number == 3 else 2, NARROW)
    made = []
    for reading, title in (("picture", words.SHOWS), ("text", words.SAYS)):
        if reading in views.readings(findings, "defaults", name):
            label = f"{title}: weight of each {name}, with intervals. The table below holds the same numbers."
            pair = [charts.lean_chart(findings, name, reading=reading, margin=margin, layout=at) for at in (wide, thin)]
            made.append(_figure(f"{title}: the mixture of {name} values nearest to each concept", label, pair, narrow))
    if views.readings(findings, "rates", name):
        label = f"Share of pictures of each {name}, with intervals. The table below holds the same numbers."
        pair = [charts.rates_chart(findings, name, margin=margin, layout=at) for at in (wide, thin)]
        made.append(_figure("Estimated share of pictures that show each value", label, pair, narrow))
    return made


def _figure(title: str, label: str, pair: Sequence[alt.ChartType], narrow: bool) -> Figure:
    wide, thin = pair
    return Figure(title, inline_svg(wide, label), inline_svg(thin, label) if narrow else Markup(""))


def fit(layout: Layout, panels: int, total: int) -> Layout:
    """The layout with as many panels side by side as given, filling the width that the concepts' names leave."""
    most = 180 if total == WIDE else 108
    longest = max(map(len, layout.order or ()), default=0)
    labels = min(max(60, round(6.8 * longest) + 16), most)
    width = (total - labels - 22 * (panels - 1)) // panels
    return replace(layout, width=min(width, 420), labels=labels, columns=panels)


def _scatter(findings: pd.DataFrame, tally: Tally, margin: float) -> Figure | None:
    if len(views.disagreements(findings, tally.attribute)) < _FEW:
        return None
    label = f"For each concept, its lean on {tally.attribute} by the words against that by the picture."
    wide, narrow = (
        inline_svg(charts.says_shows_chart(findings, tally.attribute, margin=margin, side=side), label)
        for side in (430, 270)
    )
    return Figure("Words against picture", wide, narrow)


# ---------------------------------------------------------------------------------------------------- concepts


def _strongest(
    findings: pd.DataFrame, tally: Tally, margin: float, spec: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, tuple[ledger.Entry, ...]]]:
    """For each value that something leans to: the value, how it is drawn, and the concepts that lean furthest to it."""
    own = findings[findings["attribute"] == tally.attribute]
    looks = {value: "first" if tally.pair and value == tally.values[0] else "second" for value in tally.values}
    return [
        (value, looks[value], tuple(ledger.entries(own, targets[:_EACH], margin, spec)))
        for value, targets in list(tally.leaning.items())[:6]
        if targets
    ]
