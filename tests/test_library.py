"""A library of directions: listed with what is broken, found by name, exported, and refused on another model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

import scalex
from scalex.cli import app
from scalex.direction_files import Direction, Provenance, Validation, load_direction, save_direction
from scalex.errors import ScalexError
from scalex.library import FORMATS, export_direction, find, library_folder, listed
from scalex.models import Model

SEEN = Validation("exact readout", 0.9, 0.8, 1.0, "acts")
OF = Provenance("gender: man to woman", "attribute", "text", 3, (0, 1, 2), "f" * 64, "mid_block", "mean")
DIRECTION = Direction(np.array([3.0, 0.0, 4.0]), replace(OF, concepts=("nurse",), templates=("a {}",), validation=SEEN))


def run(*words: object) -> tuple[int, str]:
    """Exit code and standard output; what a user's mistake says is raised."""
    shown = CliRunner().invoke(app, ["directions", *map(str, words)])
    if isinstance(shown.exception, ScalexError):
        raise shown.exception
    assert shown.exit_code == 0, shown.output
    return shown.exit_code, shown.stdout


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    save_direction(DIRECTION, tmp_path / "shelf" / "people" / "gender.safetensors")
    save_direction(replace(DIRECTION, of=OF), tmp_path / "shelf" / "bare.safetensors")
    save_file({"w": np.ones(3)}, tmp_path / "shelf" / "weights.safetensors")
    return tmp_path / "shelf"


def test_a_file_keeps_prompts_validation_and_when_it_was_first_saved(tmp_path: Path) -> None:
    of = load_direction(save_direction(DIRECTION, tmp_path / "a.safetensors")).of
    assert (of.concepts, of.templates, of.validation) == (("nurse",), ("a {}",), SEEN)
    old = replace(DIRECTION, of=replace(DIRECTION.of, scalex="0.0.1", made="2020-02-02"))
    again = load_direction(save_direction(old, tmp_path / "b.safetensors")).of
    assert (again.scalex, again.made) == ("0.0.1", "2020-02-02")


def test_a_file_from_before_these_were_kept_still_loads(tmp_path: Path) -> None:
    told = '{"name": "x", "origin": "y", "reading": "text", "step": 0, "seeds": [4], "moments": 0}'
    save_file(
        {"vector": np.ones(3)},
        tmp_path / "old.safetensors",
        {"format": "scalex direction", "version": "1"} | {"of": told},
    )
    assert load_direction(tmp_path / "old.safetensors").of == Provenance("x", "y", "text", 0, (4,))


def test_the_folder_is_the_callers_or_the_environments_or_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCALEX_DIRECTIONS", raising=False)
    assert library_folder() == Path("directions")
    monkeypatch.setenv("SCALEX_DIRECTIONS", "/elsewhere")
    assert library_folder() == Path("/elsewhere")
    assert library_folder("mine") == Path("mine")


def test_a_broken_file_is_listed_with_what_is_wrong_and_hides_no_other(shelf: Path) -> None:
    held = {one.path.name: one for one in listed(shelf)}
    assert list(held) == ["bare.safetensors", "gender.safetensors", "weights.safetensors"]
    assert held["weights.safetensors"].direction is None
    assert "is no direction file" in held["weights.safetensors"].wrong
    found = held["gender.safetensors"].direction
    assert found is not None
    assert found.name == "gender: man to woman"


def test_a_direction_is_found_by_path_and_by_name(shelf: Path) -> None:
    there = shelf / "people" / "gender.safetensors"
    assert find(there) == there
    assert find("people/gender", shelf) == there
    assert find("people/gender.safetensors", shelf) == there
    with pytest.raises(ScalexError, match=r"there is no direction 'people/gendr' in .*Did you mean 'people/gender'\?"):
        find("people/gendr", shelf)
    with pytest.raises(ScalexError, match="direction file gone does not exist"):
        find("gone", shelf / "nowhere")


def test_no_library_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"there is no library of directions at .*none\. Name a folder"):
        listed(tmp_path / "none")


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_read_without_scalex(tmp_path: Path, form: str) -> None:
    files = export_direction(DIRECTION, tmp_path / f"out.{form}")
    if form == "npy":
        vector = np.load(files[0], allow_pickle=False)
        told = json.loads(files[1].read_text())
    elif form == "json":
        told = json.loads(files[0].read_text())
        vector = np.array(told["vector"], np.float32)
    else:
        with safe_open(files[0], "np") as held:
            assert list(held.keys()) == ["vector"]
            vector, told = held.get_tensor("vector"), dict(held.metadata())
            told |= {key: json.loads(told[key]) for key in ("length", "validation", "concepts")}
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [3, 0, 4])
    assert (told["name"], told["length"], told["concepts"]) == ("gender: man to woman", 5.0, ["nurse"])
    assert told["validation"]["verdict"] == "acts"


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"a direction cannot be exported as 'npz'\. Did you mean 'npy'\?"):
        export_direction(DIRECTION, tmp_path / "a.npz")


# ---- the commands ----


def test_ls_says_a_line_a_file(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEX_DIRECTIONS", str(shelf))
    lines = run("ls")[1].splitlines()
    assert len(lines) == 3
    assert re.search(
        r"^bare\.safetensors +gender: man to woman +attribute, text reading, step 3 +model f{12} +not val", lines[0]
    )
    assert lines[1].endswith("acts")
    assert "BROKEN" in lines[2]
    rows = json.loads(run("ls", shelf, "--json")[1])
    assert [row["file"] for row in rows] == ["bare.safetensors", "people/gender.safetensors", "weights.safetensors"]


def test_show_says_where_it_comes_from(shelf: Path) -> None:
    text = run("show", "people/gender", "--library", shelf)[1]
    assert re.search(r"^seeds +3 \(0 to 2\)$", text, re.MULTILINE)
    assert re.search(
        r"^validation +acts: exact readout moves by 0\.900 an alpha \(0\.800 to 1\.000\)$", text, re.MULTILINE
    )
    assert json.loads(run("show", shelf / "bare.safetensors", "--json")[1])["model"] == "f" * 64


def test_export_writes_here_and_never_over_the_direction(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", shelf / "bare.safetensors", "--to", "npy")[1].split() == ["bare.npy", "bare.json"]
    assert run("export", shelf / "bare.safetensors", "--out", "b.json")[1].split() == ["b.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "bare.json", "bare.npy", "shelf"]
    with pytest.raises(ScalexError, match="is the direction itself"):
        run("export", shelf / "bare.safetensors", "--out", shelf / "bare.safetensors")
    with pytest.raises(ScalexError, match="it is not said what to export to"):
        run("export", shelf / "bare.safetensors")
    assert load_direction(shelf / "bare.safetensors").name == "gender: man to woman"


def test_another_models_direction_is_refused(tiny_folder: Callable[..., Path], lcm: Model, tmp_path: Path) -> None:
    width = lcm.probe_shape[0]
    own = Provenance("own", "attribute", "text", 0, (), lcm.fingerprint, lcm.probe, "mean")
    save_direction(Direction(np.ones(width), own), tmp_path / "own.safetensors")
    save_direction(
        Direction(np.ones(width), replace(own, name="other", model="a" * 64)), tmp_path / "other.safetensors"
    )
    save_direction(Direction(np.ones(5), replace(own, name="wide")), tmp_path / "wide.safetensors")
    model = tiny_folder(scheduler="lcm")
    rows = {row["name"]: row["misfit"] for row in json.loads(run("ls", tmp_path, "--model", model, "--json")[1])}
    assert rows["own"] == ""
    assert "direction 'other' was found in another model (aaaaaaaaaaaa, not" in rows["other"]
    assert "direction 'wide' is 5 wide" in rows["wide"]
    assert run("show", tmp_path / "own.safetensors", "--model", model)[1].endswith(f"It fits {model}.\n")
    with pytest.raises(ScalexError, match="was found in another model"):
        run("show", tmp_path / "other.safetensors", "--model", model)


def test_an_export_steers_in_plain_diffusers_as_the_docs_say(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(tiny_folder())
    pipe.set_progress_bar_config(disable=True)
    vector = np.random.default_rng(0).normal(size=pipe.unet.config.block_out_channels[-1])
    direction = Direction(vector, Provenance("own", "attribute", "text", 0, (), "", "mid_block", "mean"))

    def draw() -> np.ndarray:
        noise = torch.Generator().manual_seed(0)
        return np.asarray(pipe("a nurse", num_inference_steps=2, generator=noise, output_type="np").images)

    plain = draw()
    with scalex.steer(pipe, direction, 2.0):
        steered = draw()
    export_direction(direction, tmp_path / "own.npy")
    added = 2.0 * torch.from_numpy(np.load(tmp_path / "own.npy"))[:, None, None]
    hook = pipe.unet.mid_block.register_forward_hook(lambda module, given, value: value + added.to(value))
    np.testing.assert_allclose(draw(), steered, atol=1e-5)
    hook.remove()
    assert abs(steered - plain).max() > 1e-3
