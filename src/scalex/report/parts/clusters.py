"""What the report shows of clusters: how many groups there are, a map, a tree, and what the text encoder groups
otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from scalex.analyses.clusters import EVERY, NAME, STABLE
from scalex.report import numbers, views, words
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import NARROW, WIDE, Figure
from scalex.report.theme import HUES, LIGHT, inline_svg, styled

__all__ = ["NAME", "ORDER", "dendrogram_chart", "map_chart", "panel"]

ORDER = 40
_READ = {"picture": words.SHOWS, "text": words.SAYS}
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right")
_POINTS = 1500  # on a map: more would make the page heavy
_LABELS = 40  # groups named on a wide map
_TALL = 60  # names in a tree that is not folded away
_ROWS = 20  # groups, and names that moved, in a table that is not folded away
_APART = 12  # names in the table of what moved
_LETTER = 6.4  # pixels

Row = Mapping[str, Any]


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """The groups of the picture reading where there is one; None without any row of a structure."""
    whole = findings[(findings["target"] == EVERY) & (findings["attribute"] == "structure")]
    held = [r for r in _READ if (whole["reading"] == r).any()]
    if not held:
        return None
    main = held[0]
    told = [p for reading in held for p in _paragraph(findings, tables, reading, first=reading == main)]
    return Panel(
        title="Groups",
        heading=_heading(findings, tables, main),
        paragraphs=tuple(told),
        figures=tuple(f for reading in held for f in _figures(tables, reading, main)),
        listings=tuple(_listings(tables, main)),
        notes=(_NOTE,) if (main, "map") in tables else (),
    )


_NOTE = (
    "Groups are found in many dimensions, never on the map: on it only near neighbours mean something, not distances "
    "between groups, nor their sizes. Stability is how much of a group comes back when the seeds are drawn again: 1 is "
    "all of it, and 0.75 is where it counts as stable."
)

# ---------------------------------------------------------------------------------------------------- sentences


def _row(findings: pd.DataFrame, reading: str, attribute: str) -> Row | None:
    own = findings[(findings["reading"] == reading) & (findings["attribute"] == attribute)]
    own = own[own["target"] == EVERY]
    return {str(k): v for k, v in own.iloc[0].items()} if len(own) else None


def _size(tables: Tables, reading: str) -> int:
    return len(tables[reading, "map"]) if (reading, "map") in tables else 0


def _heading(findings: pd.DataFrame, tables: Tables, reading: str) -> str:
    groups, encoder = tables.get((reading, "names")), _row(findings, reading, "text encoder")
    if groups is None:
        return "No groups of concepts stand out"
    said = f"{numbers.plural(_size(tables, reading), 'concept')} fall into {numbers.plural(len(groups), 'group')}"
    return said + ("" if encoder is None or math.isnan(encoder["estimate"]) else _likened(encoder))


def _likened(encoder: Row) -> str:
    """The groups beside those of the text encoder. They may differ beyond doubt, and yet by little."""
    if encoder["verdict"] != "denoiser groups differently":
        return ", those that the words alone would make"
    near = encoder["estimate"] >= STABLE
    return ", nearly those that the words alone would make" if near else ", not those that the words alone would make"


def _paragraph(findings: pd.DataFrame, tables: Tables, reading: str, *, first: bool) -> Iterator[str]:
    whole, groups = _row(findings, reading, "structure"), tables.get((reading, "names"))
    if whole is None:
        return
    if groups is None:
        yield f"{_READ[reading]}: no groups are claimed, since {whole['reason'].split(';')[0]}."
        return
    alone = int((tables[reading, "map"]["cluster"] < 0).sum())
    stable = int((groups["stability"] >= STABLE).sum())
    yield (
        f"{_READ[reading]}: {numbers.plural(len(groups), 'group')}, and {alone} concepts that belong to none. "
        f"With the seeds drawn again, {stable} of the groups come back, and as a whole the grouping agrees with itself "
        f"to {whole['estimate']:.2f}, where 1 is the same and 0 is chance."
    )
    yield from _against_encoder(findings, tables, reading, first=first)


def _against_encoder(findings: pd.DataFrame, tables: Tables, reading: str, *, first: bool) -> Iterator[str]:
    encoder, moved = _row(findings, reading, "text encoder"), tables.get((reading, "moved"))
    if encoder is None or math.isnan(encoder["estimate"]):
        return
    said = "With what the text encoder makes of the same words, before any drawing, it agrees to "
    said += f"{encoder['estimate']:.2f} ({encoder['low']:.2f} to {encoder['high']:.2f})."
    for row in views.records(moved[moved["cluster"] >= 0].head(1)) if first and moved is not None else ():
        said += f" Furthest from it: {words.isolated(row['name'])} stands with {row['near']}, "
        said += f"not with {row['text_near']} as in the text encoder."
    yield said


# ---------------------------------------------------------------------------------------------------- figures


def _figures(tables: Tables, reading: str, main: str) -> Iterator[Figure]:
    points = tables.get((reading, "map"))
    if points is None:
        return
    groups = tables.get((reading, "names"))
    folded = "" if reading == main else "Show the map of the other reading"
    label = f"{_READ[reading]}: a map on which near concepts are alike. The tables below hold the groups."
    wide, narrow = (inline_svg(map_chart(points, groups, width), label) for width in (WIDE, NARROW))
    yield Figure(f"{_READ[reading]}: what lies near what", wide, narrow, folded)
    links = tables.get((reading, "links"))
    if links is not None and reading == main:
        hint = f"Show the tree of all {len(points)} concepts" if len(points) > _TALL else ""
        said = "A tree that joins the most similar concepts first."
        wide, narrow = (inline_svg(dendrogram_chart(points, links, width), said) for width in (WIDE, NARROW))
        yield Figure(f"{_READ[reading]}: the most similar concepts join first", wide, narrow, hint)


def _hue(group: int) -> str:
    return LIGHT["unsure"] if group < 0 else LIGHT[HUES[group % len(HUES)]]


def _shape(group: int) -> str:
    """A colour comes back with another shape, so that a pair of both is one group's among the first 48."""
    return "circle" if group < 0 else _SHAPES[group // len(HUES) % len(_SHAPES)]


def map_chart(points: pd.DataFrame, groups: pd.DataFrame | None, width: int = WIDE) -> alt.ChartType:
    """Concepts on a plane, a colour and shape for each group, its name at its medoid.

    Args:
        points: the table `map`. groups: the table `names`, None where no groups are claimed. width: in pixels.
    """
    height = min(width, 620)
    shown = points.iloc[:: math.ceil(len(points) / _POINTS)].assign(cluster=-1 if groups is None else points["cluster"])
    names = {} if groups is None else dict(zip(groups["cluster"], groups["medoid"]))
    data = [
        {"x": row["x"], "y": row["y"], "hue": _hue(row["cluster"]), "shape": _shape(row["cluster"])}
        | {"tip": _tip(row, names), "size": 30 if row["cluster"] < 0 else 56}
        for row in views.records(shown)
    ]
    labels = [] if groups is None else _labels(points, groups, width, height)
    place = {axis: alt.Scale(domain=_span(points[axis]), nice=False, zero=False) for axis in "xy"}
    base = alt.Chart(alt.NamedData("points")).mark_point(filled=True, opacity=0.85)
    dots = base.encode(
        fill=alt.Fill("hue:N", scale=None), shape=alt.Shape("shape:N", scale=None), size=alt.Size("size:Q", scale=None),
        description="tip:N", tooltip="tip:N",
    )  # fmt: skip
    text = alt.Chart(alt.NamedData("labels")).encode(text="label:N")
    style: dict[str, Any] = {"fontSize": 12, "fontWeight": 600, "dy": -11, "aria": False}
    halo = text.mark_text(**style, color=LIGHT["paper"], stroke=LIGHT["paper"], strokeWidth=4)
    layers = [dots, halo, text.mark_text(**style, color=LIGHT["ink"])]
    made = [
        layer.encode(x=alt.X("x:Q", scale=place["x"], axis=None), y=alt.Y("y:Q", scale=place["y"], axis=None))
        for layer in layers
    ]
    return styled(alt.layer(*made).properties(width=width - 40, height=height), {"points": data, "labels": labels})


def _span(values: pd.Series) -> list[float]:
    """The values' range with a margin, for names at the edge."""
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 1.0
    return [low - margin, high + margin]


def _tip(row: Row, names: Mapping[int, str]) -> str:
    return f"{row['name']}: " + (f"group of {names[row['cluster']]}" if row["cluster"] in names else "in no group")


def _labels(points: pd.DataFrame, groups: pd.DataFrame, width: int, height: int) -> list[dict[str, Any]]:
    """Names of the largest groups at their medoids, none written over another."""
    at = {row["name"]: row for row in views.records(points)}
    (left, right), (bottom, top) = _span(points["x"]), _span(points["y"])
    taken: list[tuple[float, float, float]] = []
    labels = []
    for name in groups["medoid"].head(_LABELS if width == WIDE else _LABELS // 3):
        x, y, half = at[name]["x"], at[name]["y"], len(name) * _LETTER / 2
        across, down = (x - left) / (right - left) * (width - 40), (y - bottom) / (top - bottom) * height
        if all(abs(across - u) > half + w + 4 or abs(down - v) > 15 for u, v, w in taken):
            taken.append((across, down, half))
            labels.append({"x": x, "y": y, "label": name})
    return labels


def dendrogram_chart(points: pd.DataFrame, links: pd.DataFrame, width: int = WIDE) -> alt.ChartType:
    """The tree of concepts, its leaves down the left side, coloured where all that a branch holds is of one group.

    Args:
        points: the table `map`. links: the table `links`. width: in pixels.
    """
    from scipy.cluster.hierarchy import dendrogram

    hues = _branch_hues(points["cluster"].tolist(), links)
    table = links[["first", "second", "distance", "size"]].to_numpy(float)
    tree = dendrogram(table, no_plot=True, link_color_func=hues.__getitem__)
    names = [str(points["name"].iloc[leaf]) for leaf in tree["leaves"]]
    data = [
        {"link": i, "index": j, "leaf": (downs[j] - 5) / 10, "apart": acrosses[j], "hue": hue}
        for i, (downs, acrosses, hue) in enumerate(zip(tree["icoord"], tree["dcoord"], tree["color_list"]))
        for j in range(len(downs))
    ]
    label = min(150 if width == WIDE else 110, round(_LETTER * max(map(len, names))) + 12)
    axis = alt.Axis(
        title=None, values=list(range(len(names))), labelExpr=f"{json.dumps(names)}[round(datum.value)]", grid=False,
        labelLimit=label, minExtent=label, maxExtent=label, labelFontSize=11, labelColor=LIGHT["ink"],
        labelOverlap=False, labelPadding=6,
    )  # fmt: skip
    y = alt.Y("leaf:Q", axis=axis, scale=alt.Scale(domain=[-0.5, len(names) - 0.5], reverse=True, nice=False))
    lines = alt.Chart(alt.NamedData("links")).mark_line(strokeWidth=1.3, aria=False, interpolate="linear")
    made = lines.encode(
        x=alt.X("apart:Q", axis=None), y=y, detail="link:N", order="index:Q", stroke=alt.Stroke("hue:N", scale=None)
    ).properties(width=width - label - 30, height=15 * len(names))
    return styled(made, {"links": data})


def _branch_hues(groups: Sequence[int], links: pd.DataFrame) -> list[str]:
    """Of leaves and links the colour of the one group whose leaves they hold, grey where these are of several."""
    held = [{group} for group in groups]
    for first, second in zip(links["first"], links["second"]):
        held.append(held[first] | held[second])
    return [_hue(next(iter(own))) if len(own) == 1 else LIGHT["unsure"] for own in held]


# ---------------------------------------------------------------------------------------------------- tables


def _listings(tables: Tables, reading: str) -> Iterator[Listing]:
    groups, moved = tables.get((reading, "names")), tables.get((reading, "moved"))
    if groups is None:
        return
    yield _of_groups(groups.head(_ROWS), "The groups, the largest first")
    if len(groups) > _ROWS:
        yield _of_groups(groups.iloc[_ROWS:], folded=f"Show the other {len(groups) - _ROWS} groups")
    if moved is not None:
        yield _of_moved(moved.head(_APART))


def _of_groups(groups: pd.DataFrame, heading: str = "", folded: str = "") -> Listing:
    encoder = "text_overlap" in groups
    columns = ("Group of", "Concepts", "Its words", "Also holds", "Stability", *(["As the text encoder"] * encoder))
    rows = [
        (row["medoid"], numbers.count(row["size"]), row["words"], row["members"], f"{row['stability']:.2f}")
        + ((f"{row['text_overlap']:.2f}",) if encoder else ())
        for row in views.records(groups)
    ]
    return Listing(heading, columns, tuple(rows), frozenset({1, 4, 5}), folded)


def _of_moved(moved: pd.DataFrame) -> Listing:
    columns = ("Concept", "Here it stands with", "For the text encoder it stands with", "Neighbours shared")
    rows = [(r["name"], r["near"], r["text_near"], f"{100 * r['shared']:.0f}%") for r in views.records(moved)]
    return Listing("What the text encoder groups otherwise", columns, tuple(rows), frozenset({3}))
