"""Images against prompts: small pictures with their names, where images stand, and whether directions agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from scalex.report import numbers, views, words
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import Figure
from scalex.report.theme import LIGHT, inline_svg, styled

__all__ = ["NAME", "ORDER", "panel"]

NAME = "image_conditioning"
ORDER = 90
_WIDE, _NARROW = 1032, 354
_CELL, _SIDE, _FEWEST = 129, 64, 3  # pixels of a cell and of a picture; pictures side by side at least
_DOTS = 300  # images shown of each label
_ROWS = 200  # images in the table
_LEANS = (0.75, 1.5)  # where the axis of leans ends, at least and at most; what lies beyond is drawn at its end
_PLAIN = 0.5  # a cosine from which images and words go mostly one way


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """What a folder of images told."""
    table = {name: t for (_, name), t in tables.items()}
    if not {"images", "directions", "positions", "shown"} <= set(table):
        return None
    agreed = views.records(findings[findings["unit"] == "cosine"])
    found = views.records(findings[findings["unit"] == "share"])
    return Panel(
        title="Images",
        heading=_heading(agreed, found),
        paragraphs=tuple(_paragraphs(table, agreed, found)),
        figures=tuple(_figures(table, agreed)),
        listings=tuple(_listings(table, agreed)),
        notes=(
            "An image is encoded, noised a little and read once without any words, at the place where the pictures of "
            "prompts were read. Its name is the prompt whose pictures are most like it, where that is nearer than "
            "random directions come to any. Among fewer than 12 prompts chance cannot be told, and each image gets the "
            "nearest: look at the cosine and at how far the second is.",
        ),
    )


def _heading(agreed: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for verdict, said in (("agrees", "agree with words on"), ("opposes", "go against the words on")):
        named = list(dict.fromkeys(row["attribute"] for row in agreed if row["verdict"] == verdict))
        parts += [f"Images {said} {words.joined(named)}"] if named else []
    if parts:
        return "; ".join(parts).replace("; Images", "; they")
    return "Images, read without words" if not agreed else "Images do not settle whether words are right"


def _paragraphs(
    table: Mapping[str, pd.DataFrame], agreed: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> list[str]:
    unfit = int((table["images"]["name"] == "").sum())
    named = f"{len(table['images']) - unfit} of them were" if unfit else "each was"
    rest = f"; for {numbers.plural(unfit, 'image')} no concept of this vocabulary fits" if unfit else ""
    said = [
        f"{numbers.plural(len(table['images']), 'image')} were read, and {named} named by the nearest prompt{rest}."
    ]
    said += [_agreement(row) for row in agreed]
    for target in dict.fromkeys(row["target"] for row in found):
        own = [row for row in found if row["target"] == target]
        shares = [f"{numbers.estimate(row['estimate'], 'share')} have it {row['value']} ({_span(row)})" for row in own]
        what = target if target.startswith("pictures drawn") else "images labelled with a prompt"
        said.append(f"Of the {what}, how many are called so? {words.capital(words.joined(shares))}.")
    return said


def _span(row: Mapping[str, Any]) -> str:
    return f"{numbers.interval(row['low'], row['high'], 'share')}; {row['reason'].partition('; ')[2]}"


def _agreement(row: Mapping[str, Any]) -> str:
    what = f"{words.capital(row['attribute'])}, {row['value']}"
    if row["estimate"] != row["estimate"]:
        return f"{what}: no direction could be had ({row['reason']})."
    ends = f"{numbers.two_decimals(row['low'])} to {numbers.two_decimals(row['high'])}"
    start = f"{what}: what sets these images apart points the way that the words do with a cosine of "
    start += (
        f"{numbers.two_decimals(row['estimate'])} ({ends}), where 1 is the same way and 0 has nothing to do with it"
    )
    right = numbers.estimate(row["separability"], "share")
    told = f"the words' direction alone sorts the images right in {right} of pairs"
    weak = row["verdict"] == "agrees" and row["estimate"] < _PLAIN
    return f"{start}; {told}." + (" So they agree only in part." if weak else "")


# ---------------------------------------------------------------------------------------------------- figures


def _figures(table: Mapping[str, pd.DataFrame], agreed: Sequence[Mapping[str, Any]]) -> list[Figure]:
    shown, positions = table["shown"], table["positions"]
    made = []
    if len(shown):
        label = f"{len(shown)} of the images, each above its name."
        wide, narrow = (inline_svg(_gallery(shown, width), label) for width in (_WIDE, _NARROW))
        made.append(Figure("What the model calls these images", wide, narrow))
    values = {row["attribute"]: (_against(table, row), row["value"]) for row in agreed}
    for attribute, rows in positions.groupby("attribute", sort=False):
        pair = values.get(str(attribute))
        if pair and rows["lean"].notna().any():
            label = f"Each image's place between prompts of {pair[0]} and of {pair[1]}, by its label."
            wide, narrow = (inline_svg(_strip(rows, pair, width), label) for width in (_WIDE, _NARROW))
            made.append(
                Figure(
                    f"Between {pair[0]} and {pair[1]}: each image beside the variants of what it is called",
                    wide,
                    narrow,
                )
            )
    return made


def _against(table: Mapping[str, pd.DataFrame], row: Mapping[str, Any]) -> str:
    rows = table["directions"]
    return str(rows.loc[(rows["attribute"] == row["attribute"]) & (rows["value"] == row["value"]), "against"].iloc[0])


def _gallery(shown: pd.DataFrame, width: int) -> alt.ChartType:
    columns = max(_FEWEST, width // _CELL)
    cell = width / columns
    rows = [
        {"picture": row["picture"], "name": row["name"] or "none fits", "labels": row["labels"], "tip": row["file"]}
        | {"x": (i % columns + 0.5) * cell, "y": (i // columns) * (_SIDE + 46) + _SIDE / 2}
        for i, row in enumerate(views.records(shown))
    ]
    height = (-(-len(rows) // columns)) * (_SIDE + 46)
    across = alt.X("x:Q", scale=alt.Scale(domain=[0, width], nice=False), axis=None)
    down = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False), axis=None)
    base = alt.Chart(alt.NamedData("shown")).encode(x=across, y=down)
    style: dict[str, Any] = {"aria": False, "limit": cell - 18, "fontSize": 12}
    layers = [
        base.mark_image(width=_SIDE, height=_SIDE).encode(url="picture:N", description="tip:N"),
        base.mark_text(**style, dy=_SIDE / 2 + 10, color=LIGHT["ink"]).encode(text="name:N"),
        base.mark_text(**{**style, "fontSize": 11}, dy=_SIDE / 2 + 25, color=LIGHT["muted"]).encode(text="labels:N"),
    ]
    return styled(alt.layer(*layers).properties(width=width, height=height), {"shown": rows})


def _strip(positions: pd.DataFrame, pair: tuple[str, str], width: int) -> alt.ChartType:
    known = positions.dropna(subset="lean").assign(label=positions["label"].replace("", "not labelled"))
    order = [name for name in (*pair, "not labelled") if name in set(known["label"])]
    rows = [
        {"label": row["label"], "lean": round(row["lean"], 3), "tip": f"{row['file']}: {row['lean']:+.2f}"}
        for name in order
        for row in views.records(known[known["label"] == name].head(_DOTS))
    ]
    ends = min(max(_LEANS[0], *(abs(row["lean"]) for row in rows)), _LEANS[1])
    axis = alt.Axis(
        title=None, values=[-0.5, 0, 0.5], grid=True, orient="top",
        labelExpr="datum.value < 0 ? first : datum.value > 0 ? second : '0'",
    )  # fmt: skip
    said = [f"same as {value}" if width == _WIDE else value for value in pair]
    params = [alt.param(name=name, value=value) for name, value in zip(("first", "second"), said)]
    colours = alt.Scale(domain=[*pair, "not labelled"], range=[LIGHT["first"], LIGHT["second"], LIGHT["unsure"]])
    strip = (
        alt.Chart(alt.NamedData("positions"))
        .mark_tick(thickness=2, opacity=0.55, height=22)
        .encode(
            x=alt.X("lean:Q", scale=alt.Scale(domain=[-ends, ends], nice=False, clamp=True), axis=axis),
            y=alt.Y("label:N", sort=order, axis=alt.Axis(title=None, labelLimit=110, labelColor=LIGHT["ink"])),
            color=alt.Color("label:N", scale=colours, legend=None),
            description="tip:N",
        )
        .properties(width=width - 130, height=alt.Step(34))
        .add_params(*params)
    )
    return styled(strip, {"positions": rows})


# ---------------------------------------------------------------------------------------------------- tables


def _listings(table: Mapping[str, pd.DataFrame], agreed: Sequence[Mapping[str, Any]]) -> list[Listing]:
    made = []
    if agreed:
        names = ("Attribute", "Images of", "against", "Cosine", "Chance stays below", "Noise allows", "p", "Verdict")
        extra = views.records(table["directions"])
        sets = tuple(_direction_row(row, more) for row, more in zip(agreed, extra))
        made.append(Listing("Direction of the images and of the words", names, sets, frozenset({3, 4, 5, 6})))
    images = views.records(table["images"].head(_ROWS))
    rows = tuple(_image_row(row) for row in images)
    columns = ("File", "Labels", "Name", "Nearest", "Cosine", "Second", "Ahead by")
    folded = f"Every image and its name (the first {len(images)} of {len(table['images']):,})"
    if len(images) == len(table["images"]):
        folded = f"Every image and its name ({len(images)})"
    return [*made, Listing("", columns, rows, frozenset({4, 6}), folded)]


def _direction_row(row: Mapping[str, Any], more: Mapping[str, Any]) -> tuple[str, ...]:
    sets = (f"{row['value']} ({more['images']})", f"{more['against']} ({more['others']})")
    cosines = (numbers.two_decimals(number) for number in (row["estimate"], more["chance"], more["ceiling"]))
    return (row["attribute"], *sets, *cosines, numbers.probability(row["p"]), row["verdict"])


def _image_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    cosine, ahead = (numbers.two_decimals(row[column]) for column in ("cosine", "margin"))
    nearest = row.get("nearest", row["name"])  # tables of earlier versions have no other
    return (row["file"], row["labels"], row["name"] or "none fits", nearest, cosine, row["second"], ahead)
