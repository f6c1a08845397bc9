"""What the figures of bench/efficiency.py mean: the parts that no run would show to be wrong."""

from __future__ import annotations

import importlib
import json
import math
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scalex.truth import markdown

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def efficiency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("efficiency")


@pytest.mark.parametrize(
    ("points", "reached"),
    [
        ([(1.0, 0.8), (10.0, 0.9), (100.0, 1.0)], 10 * math.sqrt(10)),  # halfway in the logarithm
        ([(1.0, 0.96), (2.0, 0.9), (8.0, 1.0)], 4.0),  # what it was once above does not count: it must stay there
        ([(3.0, 0.95), (9.0, 0.99)], 3.0),
        ([(3.0, 0.97), (9.0, 0.94)], None),
    ],
)
def test_what_it_takes_to_reach_a_correlation_is_where_it_stays(
    efficiency: ModuleType, points: list[tuple[float, float]], reached: float | None
) -> None:
    assert efficiency.reached_at(points, 0.95) == pytest.approx(reached)


def test_pictures_that_show_neither_value_are_left_out_of_a_share(efficiency: ModuleType) -> None:
    labels = np.array([[0, 1, 1, 2, -1], [2, 2, -1, -1, 2]])
    assert efficiency.share_of_second(labels) == pytest.approx([2 / 3, 0.5])


def test_compute_counts_every_kind_of_operation(efficiency: ModuleType) -> None:
    cost = efficiency.Cost(full=4, stopped=1, decode=2, encode=3)
    assert cost.gflop({"full": 1.0, "stopped": 10.0, "decode": 100.0, "encode": 1000.0}) == 4 + 10 + 200 + 3000


def test_more_steps_cost_pictures_more_and_samples_of_an_audit_nothing(efficiency: ModuleType) -> None:
    gflop = {"full": 1e3, "stopped": 1e4, "decode": 1e5, "encode": 0.0}
    guided = efficiency.Prices(gflop, {}, times=4)
    picture = efficiency.Point("", "drawn", "gender", 1, 1, efficiency.Cost(25, 0, 1, 1), [])
    read = efficiency.Point("", "picture, first", "gender", 1, 1, efficiency.Cost(1, 1, 0, 1), [])
    assert picture.tflop(guided) == pytest.approx(100 + 100)
    assert read.tflop(guided) == pytest.approx(1 + 10)


def test_no_side_sees_the_seeds_that_the_undistilled_truth_is_drawn_of(efficiency: ModuleType) -> None:
    bed = efficiency.BEDS["undistilled"]
    assert max(bed.seeds, bed.pictures) <= efficiency.UNSEEN.start


@pytest.mark.parametrize("block", ["truth", "abilities"])
def test_pages_show_the_figures_that_were_measured(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    headlines = importlib.import_module("_tables").HEADLINES[block]
    held = json.loads((BENCH / "results" / f"{block}.json").read_text(encoding="utf-8"))
    columns = {t: rows if isinstance(rows, list) else [*chain(*rows.values())] for t, rows in held.items()}
    for page, wanted in (("docs/truth.md", None), ("README.md", headlines)):
        shown = {t: [row for row in rows if wanted is None or row["name"] in wanted] for t, rows in columns.items()}
        assert markdown(shown) in (BENCH.parent / page).read_text(encoding="utf-8"), page
    assert set(headlines) <= {row["name"] for rows in columns.values() for row in rows}
