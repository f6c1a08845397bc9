"""The report: its words, its charts, its page. Findings are synthetic, shaped as the analyses give them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scalex.records import Finding

PEOPLE = (
    "nurse pilot farmer teacher firefighter scientist judge chef singer mechanic astronaut student artist detective doctor "
    "librarian secretary plumber dancer soldier florist baker engineer professor cleaner butcher cashier lawyer surgeon poet "
    "athlete king magician guard runner climber gardener tailor welder vampire"
).split()
SPEC = {
    "gender": {"man": "man {}", "woman": "woman {}"},
    "tone": {"light": "{} with light skin", "dark": "{} with dark skin"},
}


def verdict(estimate: float, half: float, neutral: float, values: Sequence[str]) -> tuple[str, str]:
    effect = estimate - neutral
    if abs(effect) + half < 0.1:
        return "balanced", f"the interval lies within 0.1 of the neutral {neutral:.3g}; these 2 templates only"
    if abs(effect) > half:
        return f"leans to {values[effect > 0]}", "q 0.002 after correction; these 2 templates only"
    more = max(1, math.ceil(32 * ((half / max(abs(effect), 0.02)) ** 2 - 1)))
    return "undecided", f"about {more} more seeds would decide; these 2 templates only"


def finding(analysis: str, reading: str, target: str, attribute: str, value: str, **numbers: object) -> Finding:
    nan = math.nan
    blank = {"estimate": nan, "unit": "lean", "low": nan, "high": nan, "p": nan, "q": nan, "separability": 0.99}
    rest = {"verdict": "undecided", "reason": "", "n_seeds": 32, "n_templates": 2}
    return Finding(analysis, reading, target, attribute, value, **{**blank, **rest, **numbers})  # type: ignore[arg-type]


def of_lean(reading: str, target: str, attribute: str, lean: float, half: float) -> Finding:
    values = list(SPEC[attribute])
    said, why = verdict(lean, half, 0.0, values)
    p = math.erfc(abs(lean) / (half / 1.96) / math.sqrt(2))
    numbers = {"estimate": lean, "low": lean - half, "high": lean + half, "p": p, "q": min(1.0, 1.6 * p)}
    return finding("defaults", reading, target, attribute, values[1], **numbers, verdict=said, reason=why)


def of_rates(target: str, attribute: str, share: float, half: float) -> list[Finding]:
    values = list(SPEC[attribute])
    said, why = verdict(share, half, 0.5, values)
    found = []
    for value, at in zip(values, (1 - share, share)):
        numbers = {"estimate": at, "low": max(0.0, at - half), "high": min(1.0, at + half), "p": 0.01, "q": 0.02}
        found.append(
            finding("rates", "picture", target, attribute, value, **numbers, unit="share", verdict=said, reason=why)
        )
    return found


def unexpressed(target: str, attribute: str, reading: str) -> list[Finding]:
    values = list(SPEC[attribute])
    told = {"verdict": "not expressed", "separability": 0.63}
    told["reason"] = "held-out seeds tell the variants apart with AUC 0.63, the floor is 0.8"
    rows = [finding("defaults", reading, target, attribute, values[1], **told)]
    if reading == "picture":
        rows += [finding("rates", reading, target, attribute, value, unit="share", **told) for value in values]
    return rows


def synthetic(
    targets: Sequence[str] = PEOPLE, attributes: Sequence[str] = ("gender", "tone"), seed: int = 0
) -> pd.DataFrame:
    """Findings of both analyses and readings, with every verdict, as a spread of planted shares would give them."""
    rng = np.random.default_rng(seed)
    found: list[Finding] = []
    for attribute in attributes:
        scale = 1.0 if attribute == "gender" else 0.5
        for i, target in enumerate(targets):
            share = float(np.clip(0.5 + scale * rng.normal(0, 0.3), 0.02, 0.98)) if i % 5 else 0.5
            half = float(rng.uniform(0.05, 0.14))
            if attribute == "tone" and i % 7 == 3:
                found += unexpressed(target, attribute, "text") + unexpressed(target, attribute, "picture")
                continue
            words = 0.6 * (share - 0.5) + rng.normal(0, 0.12)
            found.append(of_lean("text", target, attribute, float(words), half * 0.8))
            found.append(of_lean("picture", target, attribute, share - 0.5 + float(rng.normal(0, 0.02)), half))
            found += of_rates(target, attribute, share, half)
    return pd.DataFrame(found, columns=list(Finding.columns()))


def many_valued(
    targets: Sequence[str] = PEOPLE[:12], values: Sequence[str] = ("young", "adult", "old"), seed: int = 1
) -> pd.DataFrame:
    """Weights and shares of an attribute with several values."""
    rng = np.random.default_rng(seed)
    found: list[Finding] = []
    parity = 1 / len(values)
    for target in targets:
        shares = rng.dirichlet(np.full(len(values), 1.5))
        for analysis, reading, unit in (
            ("defaults", "text", "weight"),
            ("defaults", "picture", "weight"),
            ("rates", "picture", "share"),
        ):
            for value, share in zip(values, shares):
                at = float(np.clip(share + rng.normal(0, 0.04), 0, 1))
                half = float(rng.uniform(0.05, 0.15))
                said = (
                    "undecided"
                    if abs(at - parity) < half
                    else ("leans to " if at > parity else "leans away from ") + value
                )
                numbers = {
                    "estimate": at,
                    "low": max(0.0, at - half),
                    "high": min(1.0, at + half),
                    "p": 0.02,
                    "q": 0.03,
                }
                found.append(
                    finding(
                        analysis,
                        reading,
                        target,
                        "age",
                        value,
                        **numbers,
                        unit=unit,
                        verdict=said,
                        reason="residual 0.21 of the variants' spread",
                    )
                )
    return pd.DataFrame(found, columns=list(Finding.columns()))
