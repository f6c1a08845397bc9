"""One palette for charts and page, and charts as inline SVG that follows it.

Charts are drawn in the light colours. In the page every such colour becomes a CSS variable of the same name, so that
dark mode and print need no second drawing. First and second values differ in lightness as well as hue (teal and ochre),
and verdicts differ in shape as well, for colour-blind readers and black-and-white print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

__all__ = ["DARK", "FONT", "HUES", "LIGHT", "css_variables", "inline_svg", "styled"]

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif"

LIGHT: Mapping[str, str] = {
    "paper": "#fffefc",
    "ink": "#1f1e1b",
    "muted": "#67645d",
    "line": "#d8d4ca",
    "guide": "#e9e6de",
    "band": "#efece4",
    "first": "#0b7d78",
    "second": "#b4510b",
    "third": "#2f5fc4",
    "fourth": "#8a3fa8",
    "fifth": "#b3305e",
    "sixth": "#4d7a14",
    "balanced": "#57534b",
    "unsure": "#8b877d",
    "row": "#010203",
}
DARK: Mapping[str, str] = {
    "paper": "#171613",
    "ink": "#eceae4",
    "muted": "#a5a198",
    "line": "#45423b",
    "guide": "#2a2823",
    "band": "#322f29",
    "first": "#4fc4bb",
    "second": "#f2985a",
    "third": "#86aef7",
    "fourth": "#cf9be8",
    "fifth": "#f287ab",
    "sixth": "#a3cf6a",
    "balanced": "#c9c5bb",
    "unsure": "#8f8b81",
    "row": "#fdfcfb",
}

HUES = ("first", "second", "third", "fourth", "fifth", "sixth")  # names of colours that tell kinds apart

_NOISE = re.compile(
    r' (?:xmlns(?::xlink)?|version|class|aria-roledescription|pointer-events|font-family)="[^"]*"'
    r'| role="graphics-[a-z]+"| aria-hidden="true"| (?:opacity|stroke-width)="1"'
)
_EMPTY = re.compile(r'<path(?: d="(?:M0,0h0v0h0Z)?"| display="none"| transform="[^"]*")+/>')
_GEOMETRY = re.compile(r' (?:d|transform|[xy]2?|width|height)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d\d+")
_COLOUR = re.compile(r'(fill|stroke)="(#[0-9a-f]{6})"')
_LABEL = re.compile(r'<(path|line|text|rect) aria-label="([^"]*)"([^>]*?)/>')
_NAMED = re.compile(r' aria-label="[^"]*"')
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"[^>]*>(?:<rect [^>]*/>)?')


def css_variables(palette: Mapping[str, str]) -> str:
    """The palette as CSS declarations, `--ink:#1f1e1b;` and so on."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


def styled(chart: alt.ChartType, data: Mapping[str, Sequence[Mapping[str, Any]]]) -> alt.ChartType:
    """The chart with its named data, and with the report's type and lines: no frame, quiet axes.

    The data join last, by name: Altair copies whatever a chart holds each time that charts are put together.
    """
    text = {"labelColor": LIGHT["muted"], "titleColor": LIGHT["muted"], "labelFont": FONT, "titleFont": FONT}
    axis = {
        "domain": False,
        "ticks": False,
        "gridColor": LIGHT["guide"],
        "labelFontSize": 12,
        "titleFontWeight": "normal",
    }
    title = {"font": FONT, "color": LIGHT["ink"], "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 10}
    subtitle = {"subtitleFont": FONT, "subtitleColor": LIGHT["muted"], "subtitleFontSize": 12}
    legend = {"labelColor": LIGHT["ink"], "labelFont": FONT, "labelFontSize": 12, "titleColor": LIGHT["muted"]}
    made = chart.configure(
        font=FONT,
        background=LIGHT["paper"],
        padding=4,
        axis={**axis, **text},
        legend=legend,
        title={**title, **subtitle},
        view={"stroke": None},
        concat={"spacing": 22},
    )
    made.datasets = {name: list(rows) for name, rows in data.items()}
    return made


def inline_svg(chart: alt.ChartType, label: str) -> Markup:
    """The chart as SVG to be put into HTML: themed by CSS variables, with a `<title>` on every mark with a description.

    Rendered by vl-convert: no browser, no request. `label` is what screen readers hear in place of the drawing.
    """
    spec = chart.to_dict(validate=False)  # checked against the schema in the tests: it doubles the time
    version = "_".join(alt.SCHEMA_VERSION.split(".")[:2])
    svg = _titled(vl_convert.vegalite_to_svg(spec, vl_version=version))
    svg = _EMPTY.sub("", _NOISE.sub("", svg))
    svg = _GEOMETRY.sub(lambda held: _LONG.sub(lambda number: f"{float(number.group()):.1f}", held.group()), svg)
    svg = _COLOUR.sub(_variable, svg)
    size = _SIZE.search(svg)
    if size is None:  # a change in vl-convert's output: a bug, not a user's mistake
        raise RuntimeError("the drawn chart has no size")
    width, height = size.groups()
    head = f'<svg role="img" aria-label="{escape(label)}" width="{width}" viewBox="0 0 {width} {height}">'
    return Markup(head + svg[size.end() :])


def _titled(svg: str) -> str:
    """Descriptions as `<title>` elements, which browsers show, in place of labels inside what is one image."""
    titled = _LABEL.sub(r"<\1\3><title>\2</title></\1>", svg)
    return _NAMED.sub("", titled)


def _variable(match: re.Match[str]) -> str:
    name = _NAMES.get(match.group(2))
    if name == "row":
        return 'class="row"'
    return f'{match.group(1)}="var(--{name})"' if name else match.group()


_NAMES = {colour: name for name, colour in LIGHT.items()}
