"""Found directions, pushed: what they move is told, either way round, and what means nothing moves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scalex.cli import app
from scalex.direction_files import Direction, load_direction
from scalex.discovering import discover_directions
from scalex.drawings import FILE
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.scorers import readouts_of
from scalex.scorers.exact import exact_readouts
from scalex.scorers.function import Function
from scalex.steering_vectors import steering_vectors
from scalex.store import Store
from scalex.validation.discovered import effects_of, validate_discovered
from scalex.validation.dose_response import Doses

SPEC: dict[str, Any] = {
    "concepts": ["farmer", "pilot", "teacher"],
    "attributes": ["gender", "tone"],
    "templates": ["a photo of a {}"],
    "seeds": 8,
    "analyses": ["naming"],
    "permutations": 999,
    "resamples": 200,
}
DOSES = Doses(alphas=(-1.0, 0.0, 1.0), seeds=8, controls=1)


@pytest.fixture(scope="module")
def job() -> Job:
    return prepare(spec=SPEC, device="cpu")


@pytest.fixture(scope="module")
def gender(tmp_path_factory: pytest.TempPathFactory) -> Direction:
    """What takes a farmer from man to woman."""
    known = prepare(spec=SPEC | {"analyses": ["defaults"], "seeds": 16}, device="cpu")
    store = Store.open(tmp_path_factory.mktemp("vectors"))
    return steering_vectors(known, store, "gender", concepts=["farmer"])["farmer"].direction


def turned(direction: Direction, vector: np.ndarray, name: str) -> Direction:
    return Direction(vector, replace(direction.of, name=name, seeds=()))


def test_what_a_direction_moves_is_told_either_way_round_and_of_noise_nothing(job: Job, gender: Direction) -> None:
    noise = np.random.default_rng(5).standard_normal(gender.vector.shape)
    noise *= np.linalg.norm(gender.vector) / np.linalg.norm(noise)
    found = [
        turned(gender, gender.vector, "there"),
        turned(gender, -gender.vector, "back"),
        turned(gender, noise, "noise"),
    ]
    counts: list[tuple[int, int]] = []
    table = effects_of(
        job, found, exact_readouts(EMBEDDED, job.model), DOSES, ["farmer"], progress=lambda *n: counts.append(n)
    )
    told = table.set_index(["name", "attribute"])
    assert list(told.index) == [(name, what) for name in ("there", "back", "noise") for what in ("gender", "tone")]
    assert told.verdict["there", "gender"] == "moves gender to woman"
    assert told.verdict["back", "gender"] == "moves gender to man"
    assert told.slope["there", "gender"] == pytest.approx(-told.slope["back", "gender"])
    assert told.slope["there", "gender"] > 0.25
    assert told.verdict["noise", "gender"] == "does not move gender"
    assert told.verdict["noise", "tone"] == "does not move tone"
    assert (table.low <= table.slope + 1e-9).all()
    assert (table.slope <= table.high + 1e-9).all()
    assert (table.q >= table.p).all()
    assert told.kept["there", "gender"] > 0.9
    assert counts[-1] == (8 * (1 + 3 * 6),) * 2


def test_of_many_values_each_has_a_row(job: Job, gender: Direction) -> None:
    """The brightest third of a picture, as a user's function: a share of each of three values."""

    def thirds(pictures: np.ndarray) -> np.ndarray:
        parts = np.array_split(pictures.astype(float).mean((1, 3)), 3, axis=1)
        return np.eye(3)[np.argmax([part.mean(1) for part in parts], axis=0)]

    spec = SPEC | {"attributes": {"place": {"left": "{} left", "middle": "{} middle", "right": "{} right"}}}
    many = prepare(spec=spec, device="cpu")
    readouts = readouts_of([Function(thirds, "place", ("left", "middle", "right"), "thirds")])
    table = effects_of(many, [gender], readouts, replace(DOSES, controls=0), ["farmer"])
    assert table["value"].tolist() == ["left", "middle", "right"]
    assert table["first"].tolist() == ["", "", ""]
    assert table.slope.sum() == pytest.approx(0, abs=1e-9), "shares sum to one"
    assert table.kept.isna().all(), "nothing tells whether a farmer is still there"
    assert table.chance.isna().all(), "no direction that means nothing was tried"
    assert set(table.readout) == {"thirds"}


def test_what_was_found_is_told_in_table_and_files_and_pushed_once(
    job: Job, tmp_path: Path, forwards: list[int]
) -> None:
    done = discover_directions(job, tmp_path, ["pca"], 2)
    few = Doses(alphas=(-1.0, 0.0, 1.0), seeds=4, controls=1)
    tried = validate_discovered(job, done, doses=few)
    assert len(tried.table) == 2 * 2
    assert set(tried.table.readout) == {"picture reading"}
    told = pd.read_csv(tmp_path / "directions.csv", keep_default_na=False)
    assert told["moves"].tolist() == tried.discovered.table["moves"].tolist()
    assert len(json.loads((tmp_path / "effects.json").read_text())) == 4
    for row in told.to_dict("records"):
        known = load_direction(tmp_path / row["file"]).of.validation
        own = tried.table[tried.table["name"] == row["name"]]
        assert known is not None
        assert known.slope == pytest.approx(own.slope[own.slope.abs().idxmax()])
        assert known.readout == "picture reading"
    forwards.clear()
    again = validate_discovered(job, done, doses=few)
    assert forwards == [], "pictures are kept"
    assert (tmp_path / FILE).exists()
    pd.testing.assert_frame_equal(again.table, tried.table)


def test_the_command_says_what_pictures_follow_by(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(json.dumps(SPEC | {"concepts": ["farmer", "pilot"]}))
    asked = ["discover", "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out"), "--n", "1"]
    shown = CliRunner().invoke(app, [*asked, "--validate", "--scorer", "exact", "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    [line] = [line for line in shown.stdout.splitlines() if line.startswith("pca 1")]
    assert " moves " in line


def test_what_cannot_be_tried_is_one_clear_line(job: Job, gender: Direction, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match="no readout tells the values of any attribute apart"):
        effects_of(job, [gender], readouts_of([]), DOSES, ["farmer"])
    bare = prepare(spec=SPEC | {"attributes": {}}, device="cpu")
    done = discover_directions(bare, tmp_path, ["pca"], 1)
    with pytest.raises(ScalexError, match="there is no attribute that pictures could follow by"):
        validate_discovered(bare, done)
