"""Dose-response: what counts as acting, on arrays; then on the organism that ships with the package, and its report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scalex
from scalex import runs
from scalex.auditing import Audit, open_run
from scalex.cli import app
from scalex.direction_files import Direction
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.records import Finding, Rules
from scalex.scorers import Readouts
from scalex.scorers.exact import exact_readouts
from scalex.scorers.function import Function
from scalex.store import Store
from scalex.validation._doses import controls
from scalex.validation._effects import CONCEPT, Drift, Effect, Evidence, Trend, drift, effect, position, trend, verdict
from scalex.validation.dose_response import (
    NAME,
    Case,
    DoseResponse,
    Doses,
    cases_of,
    dose_response,
    strongest,
    validate,
)

RULES = Rules(resamples=400, permutations=999)
ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def shown(rng: np.random.Generator, shares: list[float], n_seeds: int = 16) -> np.ndarray:
    """Which of two values pictures show: at every alpha this share of them, seeds alike as in common noise."""
    return (rng.random((1, 1, n_seeds)) < np.array(shares)[:, None, None]).astype(np.float64)


# ---------------------------------------------------------------------------------------------------- statistics


def test_a_picture_stands_at_one_of_two_values_or_between_them() -> None:
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [np.nan] * 3, [0.5, 0.0, 0.25]])
    assert position(scores, 0, 2).tolist() == [0.0, 1.0, 0.5, 0.5, 0.375]


def test_the_slope_is_that_of_least_squares_and_its_interval_covers() -> None:
    rng, hits, found = np.random.default_rng(0), 0, []
    for _ in range(60):
        curve = 0.5 + 0.2 * np.array(ALPHAS)[:, None, None] + 0.1 * rng.normal(size=(5, 1, 16))
        e = effect(ALPHAS, curve, RULES)
        assert e.slope == pytest.approx(np.polyfit(ALPHAS, curve.mean((1, 2)), 1)[0])
        hits += e.low <= 0.2 <= e.high
        found.append(e.slope)
    assert hits >= 52  # of 60, at 95 %: the binomial stays above with probability 0.998
    assert np.mean(found) == pytest.approx(0.2, abs=0.01)


def test_chance_is_no_slope_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(1)
    p = [effect(ALPHAS, (rng.random((5, 1, 12)) < 0.5).astype(float), RULES).p for _ in range(200)]
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_a_trend_is_told_from_shuffles_and_from_an_arch() -> None:
    rng = np.random.default_rng(2)
    rises = trend(ALPHAS, shown(rng, [0.1, 0.2, 0.4, 0.7, 0.95]), RULES)
    assert (rises.p, rises.rho, rises.fall) == (pytest.approx(1 / 1000), pytest.approx(1.0, abs=0.06), 0.0)
    arch = trend(ALPHAS, shown(rng, [0.0, 0.5, 1.0, 0.5, 0.0]), RULES)
    assert arch.p > 0.05
    assert arch.fall == 1.0
    assert arch.fall_p <= 0.05
    flat = [trend(ALPHAS, (rng.random((5, 1, 12)) < 0.5).astype(float), RULES).p for _ in range(100)]
    assert np.mean(np.array(flat) <= 0.05) <= 0.12
    still = trend(ALPHAS, np.ones((5, 1, 8)), RULES)
    assert math.isnan(still.rho)
    assert still.p == 1.0


def test_what_drifts_is_looked_at_on_both_sides() -> None:
    curve = np.full((5, 1, 16), 0.5)
    curve[0] += 0.4  # at alpha -1 alone
    found = drift("tone", ALPHAS, curve, (-1.0, 1.0), RULES)
    assert (found.alpha, found.shift) == (-1.0, pytest.approx(0.4))
    assert found.p == pytest.approx(2 / 1000)  # the least there is, for two ends
    clearer = drift(CONCEPT, ALPHAS, curve, (-1.0, 1.0), RULES)
    assert clearer.shift == 0.0  # it shows more clearly at -1, and no less at 1
    both = np.zeros((3, 1, 16))
    both[2, 0, :8], both[2, 0, 8:] = 0.5, -0.5
    churned = drift("tone", (-1.0, 0.0, 1.0), both, (1.0,), RULES)
    assert (churned.shift, churned.churn) == (0.0, 0.5)


GOOD = Evidence(
    Effect(0.4, 0.3, 0.5, 1e-4),
    1e-3,
    Trend(1.0, 1e-3, 0.0, 1.0),
    0.45,
    {"random": [0.01, -0.02], "shuffled": [0.0]},
    [Drift("tone", 1.0, 0.02, 0.9, 0.05), Drift(CONCEPT, -1.0, -0.05, 0.5, 0.1)],
)


def test_a_direction_acts_or_drags_something_along() -> None:
    acts = verdict(GOOD, RULES)
    assert acts.text == "acts"
    assert "random and shuffled directions at most 2 %" in acts.reason
    assert GOOD.off_target == pytest.approx(0.05)
    drags = replace(GOOD, drifts=[Drift("tone", 1.0, -0.3, 1e-3, 0.3), GOOD.drifts[1]])
    assert verdict(drags, RULES).text == "acts but drags tone along"
    assert "tone -30 % at alpha 1" in verdict(drags, RULES).reason
    loses = replace(GOOD, drifts=[GOOD.drifts[0], Drift(CONCEPT, 1.0, -0.4, 1e-3, 0.4)])
    assert verdict(loses, RULES).text == "acts but drags the concept along"
    gains = replace(GOOD, drifts=[Drift(CONCEPT, 1.0, 0.4, 1e-3, 0.4)])
    assert verdict(gains, RULES).text == "acts"
    assert gains.off_target == 0


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"q": 0.2}, "no more than chance gives"),
        ({"effect": Effect(-0.4, -0.5, -0.3, 1e-4)}, "it goes the other way"),
        ({"effect": Effect(0.05, 0.03, 0.07, 1e-4)}, "less than the margin"),
        ({"trend": Trend(0.1, 0.5, 0.0, 1.0)}, "does not rise with alpha"),
        ({"trend": Trend(0.6, 1e-3, 0.4, 1e-3)}, "it falls by 40 % on its way"),
        ({"controls": {"random": [0.3]}}, "directions that mean nothing do as much"),
    ],
)
def test_a_direction_that_does_not_act_is_told_why(spoilt: dict[str, Any], reason: str) -> None:
    said = verdict(replace(GOOD, **spoilt), RULES)
    assert said.text == "does not act"
    assert reason in said.reason


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"alphas": (0.0, math.nan, 1.0)}, "one of the alphas is nan"),
        ({"alphas": (-1.0, 1e6)}, "one of the alphas is 1000000"),
        ({"alphas": (0.0, 1.0)}, "needs three alphas"),
        ({"seeds": 3}, "3 seeds, 1 templates and 2 controls"),
    ],
)
def test_doses_that_carry_nothing_are_refused(asked: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ScalexError, match=wrong):
        Doses(**asked)


def test_controls_are_tried_near_one_and_zero_is_always_there() -> None:
    assert Doses().ends == (-1.0, 1.0)
    assert Doses(alphas=(1.0, 0.5, 2.0)).alphas == (0.0, 0.5, 1.0, 2.0)
    assert Doses(alphas=(1.0, 0.5, 2.0)).ends == (1.0,)
    assert Doses(alphas=(-4.0, 4.0)).ends == (-4.0, 4.0)
