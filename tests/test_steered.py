"""Steering the embedded organism, as a user does: vectors, pictures along them, the command, and what pictures show."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalex.cli import main
from scalex.direction_files import load_direction
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.report.grid import grid
from scalex.scorers import AttributeScorer, scored
from scalex.scorers.exact import exact
from scalex.steered import draw_steered
from scalex.steering import check_steers
from scalex.steering_vectors import SteeringVector, steering_vectors
from scalex.store import Store
from scalex.wording import file_name

ROLES = ["pilot", "farmer", "judge", "mechanic"]
SPEC = {"concepts": ROLES, "attributes": {"gender": "preset", "tone": "preset"}, "templates": ["a photo of a {}"]}


@pytest.fixture(scope="module")
def job() -> Job:
    return prepare(spec={**SPEC, "seeds": 12})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("vectors") / "store")


@pytest.fixture(scope="module")
def vectors(job: Job, store: Store) -> dict[str, SteeringVector]:
    return steering_vectors(job, store, "gender")


def command(*args: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["scalex", *args])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_vectors_are_whole_maps_of_the_last_step_and_say_where_they_come_from(
    job: Job, vectors: dict[str, SteeringVector]
) -> None:
    assert list(vectors) == ROLES
    one = vectors["pilot"]
    assert one.values == ("man", "woman")
    assert one.direction.vector.shape == one.centre.shape == (np.prod(job.model.probe_shape),)
    of = one.direction.of
    assert (of.name, of.step, of.pooling) == ("gender of pilot: man to woman", 3, "full")
    assert (of.model, of.probe, of.seeds) == (job.model.fingerprint, "mid_block", job.seeds)
    assert one.length == pytest.approx(float(np.linalg.norm(one.direction.vector)))
    check_steers(one.direction, job.model)


def test_vectors_that_are_stored_are_not_captured_again(
    job: Job, store: Store, vectors: dict[str, SteeringVector]
) -> None:
    said: list[tuple[int, int]] = []
    again = steering_vectors(job, store, "gender", progress=lambda *now: said.append(now))
    assert said[-1] == (0, 0)
    assert np.array_equal(again["judge"].direction.vector, vectors["judge"].direction.vector)


def test_alpha_one_from_a_man_shows_a_woman_in_the_same_role(job: Job, vectors: dict[str, SteeringVector]) -> None:
    """As in bench/steering.py, in small: there it is eight in ten of all roles, here half of four roles is asked."""
    directions = {name: vector.direction for name, vector in vectors.items()}
    done = draw_steered(job, directions, [0.0, 1.0], seeds=range(700, 706), start=("gender", "man"))
    assert done.texts[0] == "a photo of a man pilot"
    assert done.pictures.shape == (4, 6, 2, 64, 64, 3)
    gender = exact(EMBEDDED, job.model, "gender", ("man", "woman"))
    concept = exact(EMBEDDED, job.model, "concept", tuple(ROLES))
    flat = done.pictures.reshape(-1, 64, 64, 3)
    woman = scored(gender, flat)[:, 1].reshape(4, 6, 2).mean((0, 1))
    kept = scored(concept, flat).reshape(4, 6, 2, 4)[range(4), :, :, range(4)].mean((0, 1))
    assert woman[0] <= 0.1
    assert woman[1] >= 0.5
    assert kept[1] >= 0.8 * kept[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"attribute": "gendre"}, "no attribute 'gendre'. Did you mean 'gender'"),
        ({"attribute": "gender", "values": ("man", "women")}, "no value 'women'. Did you mean 'woman'"),
        ({"attribute": "gender", "values": ("man",)}, "between two values of 'gender', not 1"),
        ({"attribute": "gender", "values": ("man", "man")}, "between two values"),
        ({"attribute": "gender", "concepts": ["pilots"]}, "no concept 'pilots'. Did you mean 'pilot'"),
    ],
)
def test_what_is_not_there_is_named(job: Job, store: Store, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ScalexError, match=message):
        steering_vectors(job, store, **asked)


def test_a_command_leaves_a_grid_and_files_that_steer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--attribute", "gender", "--concept", "pilot", "--seeds", "4", "--pictures", "2", "--alpha=-1,0,1"]
    assert command("steer", *asked, "--out", str(tmp_path), "--json", monkeypatch=monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    with Image.open(told["grid"]) as image:
        assert image.width > 3 * 96
        assert image.height > 2 * 96
    [file] = told["directions"]
    assert file.endswith("directions/gender-of-pilot-man-to-woman.safetensors")
    assert load_direction(file).of.pooling == "full"
    again = ["--direction", file, "--concept", "pilot", "--pictures", "1", "--alpha", "1", "--out", str(tmp_path / "b")]
    assert command("steer", *again, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [f"direction: {file}", f"pictures: {tmp_path / 'b' / 'steered.png'}"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "it is not said what to steer along"),
        (["--attribute", "gender", "--direction", "x"], "it is not said what to steer along"),
        (["--attribute", "gender", "--alpha", "much"], "--alpha much is not understood"),
        (["--attribute", "gender", "--alpha", "nan"], "alpha is nan"),
        (["--attribute", "gender", "--start", "girl"], "no attribute of the spec has a value 'girl'"),
        (["--direction", "none.safetensors"], "direction file none.safetensors does not exist"),
    ],
)
def test_a_mistake_is_one_line(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["steer", *args, "--concept", "pilot", "--seeds", "4", "--out", str(tmp_path)]
    assert command(*asked, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]
    assert not (tmp_path / "steered.png").exists()


def test_a_grid_holds_each_picture_where_its_labels_say() -> None:
    pictures = np.zeros((2, 3, 32, 32, 3), np.uint8)
    pictures[1, 2] = (0, 200, 0)
    pixels = np.asarray(grid(pictures, ["one", "two"], ["a", "b", "c"], "a title").convert("RGB"))
    green = np.argwhere((pixels == (0, 200, 0)).all(-1))
    assert len(green) == 96 * 96
    assert (green.max(0) - green.min(0)).tolist() == [95, 95]
    assert green.min(0)[0] > pixels.shape[0] // 2
    assert green.min(0)[1] > 0.6 * pixels.shape[1]


def test_a_file_is_named_as_people_type() -> None:
    assert file_name("Gender of pilot: man to woman") == "gender-of-pilot-man-to-woman"
    assert file_name("???") == "unnamed"


# ---------------------------------------------------------------------------------------------------- scorers


class _Wrong:
    """A user's scorer with something wrong."""

    name, attribute, values = "mine", "gender", ("man", "woman")

    def __init__(self, given: Any) -> None:
        self._given = given

    def score(self, pictures: np.ndarray) -> Any:
        if isinstance(self._given, Exception):
            raise self._given
        return self._given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 2)), r"gave an array of shape \(3, 2\) for 2 pictures and 2 values"),
        (np.full((2, 2), 2.0), "gave numbers that are no shares"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), "gave numbers that are no shares"),
        (KeyError("logits"), "scorer 'mine' failed: KeyError: 'logits'"),
    ],
)
def test_a_scorer_that_does_not_keep_its_word_is_named(given: Any, message: str) -> None:
    scorer = _Wrong(given)
    assert isinstance(scorer, AttributeScorer)
    with pytest.raises(ScalexError, match=message):
        scored(scorer, np.zeros((2, 8, 8, 3), np.uint8))


def test_nothing_recognised_is_not_nought(job: Job) -> None:
    """A picture of noise shows nobody: its row is unknown, and no error."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert np.isnan(scored(exact(EMBEDDED, job.model, "gender", ("man", "woman")), noise)).all()
    with pytest.raises(ScalexError, match="knows no age of old"):
        exact(EMBEDDED, job.model, "age", ("old",))
