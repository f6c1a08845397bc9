"""The plot of bench/efficiency.py: rank correlation against compute, in one row a bed and one panel an
attribute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from PIL import Image

from scalex.report.theme import LIGHT, styled

_SHOWN = {  # the ways that are drawn: what they are called there, and their colour
    "generate and classify, same noise for all": ("generate and classify, same noise for all concepts", "ink"),
    "generate and classify, other noise for each": ("generate and classify, other noise for each", "unsure"),
    "lean, picture reading of the one-step x0, own direction, one template": (
        "scalex, picture after one step",
        "first",
    ),
    "lean, picture reading of the one-step x0, pooled direction, one template": (
        "scalex, picture after one step, pooled",
        "first",
    ),
    "lean, picture reading of the picture, own direction, one template": ("scalex, finished picture", "second"),
    "lean, picture reading of the picture, pooled direction, one template": (
        "scalex, finished picture, pooled",
        "second",
    ),
    "lean, text reading, own direction, one template": ("scalex, words (text reading)", "third"),
}
_DASHED = [name for way, (name, _) in _SHOWN.items() if "pooled" in way]  # and without a band
_TITLES = {"gender": "By share of women", "tone": "By share of dark skin"}
_MODELS = {"distilled": "4 steps a picture", "undistilled": "25 steps a picture"}
_LEAST, _FEWEST, _MOST = 0.5, 0.25, 120.0  # of the axes: Spearman, and PFLOP
_TICKS = [0.3, 1, 3, 10, 30, 100]


def save_chart(curves: Mapping[str, Sequence[dict[str, Any]]], asked: Sequence[float], file: Path) -> None:
    """Draws each bed's curves at Stable Diffusion's prices, with lines at the correlations that are asked for."""
    panels = [[_panel(bed, attribute, asked) for attribute in _TITLES] for bed in curves]
    rows = [row for bed, own in curves.items() for row in _rows(bed, own)]
    chart = styled(alt.vconcat(*(alt.hconcat(*row) for row in panels)), {"curves": rows})
    drawn = vl_convert.vegalite_to_png(chart.to_dict(), vl_version=_version(), scale=2)
    with Image.open(io.BytesIO(drawn)) as picture:  # few colours: an eighth of the bytes
        few = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def _rows(bed: str, curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "bed": bed,
            "attribute": c["attribute"],
            "way": _SHOWN[c["way"]][0],
            "pflop": c["tflop"]["sd15"] / 1e3,
            "spearman": c["spearman"],
            "low": max(_LEAST, c["spearman"] - (c["spread"] or 0)),
            "high": min(1.0, c["spearman"] + (c["spread"] or 0)),
        }
        for c in curves
        if c["way"] in _SHOWN and c["spearman"] >= _LEAST
    ]


def _version() -> str:
    return "_".join(alt.SCHEMA_VERSION.split(".")[:2])


def _panel(bed: str, attribute: str, asked: Sequence[float]) -> alt.LayerChart:
    x = alt.X("pflop:Q").scale(type="log", domain=[_FEWEST, _MOST], nice=False)
    x = x.axis(title="PFLOP for 62 concepts, at Stable Diffusion 1.5's prices", values=_TICKS, format="~g")
    y = alt.Y("spearman:Q").scale(domain=[_LEAST, 1.0], nice=False, zero=False)
    y = y.axis(title=None, values=[0.5, 0.6, 0.7, 0.8, *asked, 1], format=".2~f")
    own = f"datum.bed === '{bed}' && datum.attribute === '{attribute}'"
    base = alt.Chart(alt.NamedData(name="curves")).transform_filter(own)
    title = f"{_TITLES[attribute]}, {_MODELS[bed]}: Spearman with what is drawn"
    low = alt.Y("low:Q", title=None).scale(domain=[_LEAST, 1.0], nice=False, zero=False)
    plain = alt.FieldOneOfPredicate("way", [name for name, _ in _SHOWN.values() if name not in _DASHED])
    band = base.transform_filter(plain).mark_area(opacity=0.1).encode(x, low, alt.Y2("high:Q"), _colour())
    line = base.mark_line(strokeWidth=2.5, clip=True).encode(x, y, _colour(), _dash())
    dots = base.mark_circle(size=30, opacity=1).encode(x, y, _colour())
    rules = alt.Chart(alt.Data(values=[{"asked": one} for one in asked]))
    rules = rules.mark_rule(color=LIGHT["muted"], strokeDash=[3, 3]).encode(alt.Y("asked:Q"))
    return alt.layer(line, rules, band, dots).properties(width=430, height=300, title=title)


def _colour() -> alt.Color:
    names, hues = zip(*_SHOWN.values(), strict=True)
    return alt.Color("way:N").scale(domain=names, range=[LIGHT[hue] for hue in hues]).legend(_legend())


def _dash() -> alt.StrokeDash:
    names = [name for name, _ in _SHOWN.values()]
    dashes = [[4, 3] if name in _DASHED else [1, 0] for name in names]
    return alt.StrokeDash("way:N").scale(domain=names, range=dashes).legend(_legend())


def _legend() -> alt.Legend:
    legend = alt.Legend(title=None, orient="top", columns=3, labelFontSize=13, labelLimit=400, symbolType="stroke")
    legend.symbolOpacity, legend.symbolStrokeWidth = 1, 4
    return legend
