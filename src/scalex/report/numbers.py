"""Numbers as people read them: no digit that the data do not carry, a true minus sign, unknown shown as a dash."""

from __future__ import annotations

import math
from datetime import datetime

__all__ = [
    "SHARES",
    "count",
    "day",
    "duration",
    "estimate",
    "flop",
    "interval",
    "measure",
    "plural",
    "probability",
    "two_decimals",
]

UNKNOWN = "–"
SHARES = ("share", "weight")
_UNSIGNED = ("agreement", "stability")  # from nothing to one: a sign would speak of a direction
_MINUTE, _HOUR = 60, 3600


def two_decimals(number: float) -> str:
    """A plain number with two decimals, such as an AUC."""
    return UNKNOWN if math.isnan(number) else f"{number:.2f}".replace("-", "−")


def estimate(number: float, unit: str) -> str:
    """A share as a whole percentage (weights and shares), anything else with two decimals, signed where it has sides (a
    lean)."""
    if math.isnan(number):
        return UNKNOWN
    if unit in SHARES:
        return f"{100 * number:.0f}%".replace("-0%", "0%").replace("-", "−")
    if unit in _UNSIGNED:
        return two_decimals(number).replace("−0.00", "0.00")
    text = f"{number:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def interval(low: float, high: float, unit: str) -> str:
    """Both ends in the words of `estimate`; a dash where either is unknown."""
    if math.isnan(low) or math.isnan(high):
        return UNKNOWN
    return f"{estimate(low, unit)} to {estimate(high, unit)}"


def probability(number: float) -> str:
    """A p or q value: never 0, at most three decimals."""
    if math.isnan(number):
        return UNKNOWN
    if number < 0.001:
        return "<0.001"
    return f"{number:.3f}" if number < 0.1 else f"{number:.2f}"


def plural(number: int, noun: str) -> str:
    """`1 concept`, `2 concepts`, `1,200 concepts`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def day(moment: str) -> str:
    """An ISO 8601 moment as `21 November 2026`; anything else as it is."""
    try:
        date = datetime.fromisoformat(str(moment))
    except ValueError:
        return str(moment)
    return f"{date.day} {date:%B} {date.year}"


def count(number: float | int) -> str:
    """A whole number with thousands separators."""
    return f"{round(number):,}"


def duration(seconds: float | int) -> str:
    """Seconds as `42 s`, `7 min 5 s` or `3 h 20 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s" if seconds >= 1 else f"{seconds:.1f} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def _compact(number: float | int) -> tuple[str, str]:
    """Two significant digits and an SI prefix: `1.3e15` is `("1.3", "P")`."""
    if number < 1000:
        return f"{number:.0f}", ""
    power = min(int(math.log10(number)) // 3, 6)
    scaled = number / 1000**power
    return (f"{scaled:.1f}" if scaled < 10 else f"{scaled:.0f}"), " kMGTPE"[power]


def flop(number: float | int) -> str:
    """A number of floating-point operations, such as `1.3 PFLOP`."""
    digits, prefix = _compact(number)
    return f"{digits} {prefix}FLOP"


def measure(value: object) -> str:
    """A figure of the truth table: a number with at most three significant digits, a text as it is, None as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    return f"{value:.3g}" if isinstance(value, float) else str(value)
