"""What pushing showed, as rows of tables: curves, the calibration of the scorer, and small pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image

from scalex import stats
from scalex.misclassification import Estimate, Known
from scalex.records import Rules
from scalex.report import numbers
from scalex.validation._doses import Doses, Pushed, Readers
from scalex.validation._effects import Effect

__all__ = ["Tried", "calibration_rows", "corrected_slope", "curve_rows", "strip_rows"]

_SIDE = 64  # pixels of small pictures


class Tried(NamedTuple):
    """What was drawn and read of a case.

    Attributes:
        own: of its direction. others: by kind, of those that mean nothing, at the ends alone.
        known: what the scorer says of pictures of known values; None where that was not asked for.
    """

    own: Pushed
    others: tuple[tuple[str, Pushed], ...]
    readers: Readers
    known: Known | None


def corrected_slope(known: Known | None, effect: Effect, rules: Rules) -> str:
    """What is said of the slope with the scorer's mistakes taken out; nothing where it was not calibrated."""
    if known is None:
        return ""
    slope = _slope(known, effect, rules)
    if math.isnan(slope.estimate):
        return "on pictures of known values the scorer tells too little to correct by"
    ends = numbers.interval(slope.low, slope.high, "lean")
    return f"with the scorer's mistakes taken out {slope.estimate:+.2f} per alpha ({ends})"


def calibration_rows(tried: Tried, effect: Effect, doses: Doses, rules: Rules) -> Iterator[dict[str, Any]]:
    """How right the scorer is on pictures of known values, and the slope with its mistakes taken out."""
    known = tried.known
    if known is None:
        return
    slope = _slope(known, effect, rules)
    right = {"right_first": 1 - float(known.first.mean()), "right_second": float(known.second.mean())}
    told = {"slope": slope.estimate, "low": slope.low, "high": slope.high}
    yield {"scorer": tried.readers.target.name, "pictures": doses.calibrate * len(known.first), **right, **told}


def _slope(known: Known, effect: Effect, rules: Rules) -> Estimate:
    return known.slope(Estimate(effect.slope, effect.low, effect.high), rules.level)


def curve_rows(tried: Tried, rules: Rules) -> Iterator[dict[str, Any]]:
    """Mean readouts with intervals, by direction and alpha: of the target, as it is and with the scorer's mistakes
    taken out, of what should stay, and the distance."""
    kinds = [("own", 0, tried.own), *((kind, i + 1, one) for i, (kind, one) in enumerate(tried.others))]
    for kind, number, one in kinds:
        measured = {"target": one.target, **one.others, "distance": one.distance}
        for what, curve in measured.items():
            for alpha, values in zip(one.alphas, curve):
                ends = _span(values, rules) if kind == "own" else stats.Interval(math.nan, math.nan)
                yield _point(kind, number, what, alpha, Estimate(float(values.mean()), *ends))
    if tried.known is not None:
        for alpha, values in zip(tried.own.alphas, tried.own.target):
            share = tried.known.share(float(values.mean()), values.shape[1], rules.level)
            yield _point("own", 0, "corrected", alpha, share)


def _point(kind: str, number: int, what: str, alpha: float, at: Estimate) -> dict[str, Any]:
    place = {"direction": kind, "number": number, "what": what, "alpha": alpha}
    return place | {"readout": at.estimate, "low": at.low, "high": at.high}


def _span(values: Any, rules: Rules) -> stats.Interval:
    """The interval of a mean: Wilson's, each seed a sample, where it is of shares; honest where all seeds agree."""
    if values.max() > 1 or values.min() < 0:
        return stats.Interval(math.nan, math.nan)
    return stats.wilson(float(values.mean()), float(values.shape[1]), rules.level)


def strip_rows(own: Pushed, doses: Doses) -> Iterator[dict[str, Any]]:
    """The pictures of some seeds, alpha from left to right, as one small image each."""
    for i, seed in enumerate(doses.numbers[: own.pictures.shape[1]]):
        row = [Image.fromarray(p).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS) for p in own.pictures[:, i]]
        strip = Image.new("RGB", (_SIDE * len(row), _SIDE))
        for place, picture in enumerate(row):
            strip.paste(picture, (place * _SIDE, 0))
        data = io.BytesIO()
        strip.save(data, format="WEBP", quality=80)
        source = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
        yield {"seed": seed, "n": len(row), "alphas": " ".join(f"{a:g}" for a in own.alphas), "picture": source}
