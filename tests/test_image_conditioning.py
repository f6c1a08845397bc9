"""Images against prompts: files to pixels, pixels to latents, and what is said of them, each against another way."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from scipy import stats as scipy_stats
from typer.testing import CliRunner

import scalex
from scalex.analyses.naming import UNFIT
from scalex.capture import Plan, capture_pictures, generate, picture_size, start_noise
from scalex.cli import app
from scalex.errors import ScalexError
from scalex.images import BadImage, ImageFile, image_key, list_images, read_image
from scalex.models import Model
from scalex.organisms import EMBEDDED
from scalex.organisms.pictures import held_out_people
from scalex.organisms.readout import load_truth
from scalex.records import Latents, Prompt, Rules
from scalex.report.parts import image_conditioning as part
from scalex.report.parts import panels
from scalex.store import Store
from scalex.validation._agreement import Sets, _arrangements, _left_out, _shuffles, agreement, matched
from scalex.validation._judging import attributes_in, concluded, directions, found_again, names_of, positions, value_of
from scalex.validation._names import Names, rank_of
from scalex.validation._reading import Reader, drawn_recipe, image_recipe
from scalex.validation.image_conditioning import Conditioned, condition, judge

RULES = Rules(resamples=200, permutations=999)
GENDER = {"gender": ("man", "woman")}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flag(*colours: tuple[int, int, int], side: int = 12) -> Image.Image:
    """Squares side by side."""
    return Image.fromarray(np.concatenate([np.full((side, side, 3), c, np.uint8) for c in colours], axis=1))


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


# ---------------------------------------------------------------------------------------------------- files
def test_the_middle_is_taken_and_scaled(tmp_path: Path) -> None:
    pixels = read_image(saved(tmp_path / "a.png", flag(RED, GREEN, BLUE, side=30)), (8, 8))
    np.testing.assert_allclose(pixels, np.broadcast_to(GREEN, (8, 8, 3)), atol=20)  # resampling sees over the edge
    assert tuple(pixels[4, 4]) == GREEN


def test_an_image_that_a_camera_turned_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = read_image(saved(tmp_path / "a.png", flag(RED, BLUE).resize((12, 12), 0), exif=exif), (12, 12))
    assert (tuple(pixels[0, 6]), tuple(pixels[-1, 6])) == (RED, BLUE)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), RED),
        (Image.new("LA", (9, 9), (0, 0)), (255, 255, 255)),
        (Image.new("L", (9, 9), 70), (70, 70, 70)),
        (Image.new("1", (9, 9), 1), (255, 255, 255)),
        (Image.fromarray(np.full((9, 9), 257 * 70, np.uint16)), (70, 70, 70)),
        (flag(BLUE).convert("P"), BLUE),
    ],
    ids=["clear", "opaque", "gray and clear", "gray", "one bit", "gray of 16 bits", "palette"],
)
def test_any_kind_of_pixel_becomes_rgb_on_white(
    image: Image.Image, colour: tuple[int, int, int], tmp_path: Path
) -> None:
    pixels = read_image(saved(tmp_path / "a.png", image), (4, 4))
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8(colour), (4, 4, 3)))


def bad_files(folder: Path) -> dict[str, Path]:
    whole = saved(
        folder / "whole.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    )
    cut, junk, text, huge = (folder / name for name in ("cut.png", "junk.png", "notes.txt", "huge.png"))
    cut.write_bytes(whole.read_bytes()[:2000])
    junk.write_bytes(b"\x89PNG\r\n\x1a\n junk")
    text.write_text("no image")
    data = bytearray(whole.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)  # the header claims ten thousand megapixels
    huge.write_bytes(bytes(data))
    return {"cut": cut, "junk": junk, "text": text, "huge": huge}


@pytest.mark.parametrize(
    ("which", "reason"),
    [("cut", "is broken"), ("junk", "is no image"), ("text", "is no image"), ("huge", r"is (refused|no image)")],
)
def test_what_gives_no_picture_is_said(which: str, reason: str, tmp_path: Path) -> None:
    path = bad_files(tmp_path)[which]
    with pytest.raises(BadImage, match=rf"^image {path} {reason}"):
        read_image(path, (8, 8))


@pytest.mark.parametrize("most", [100, 150])  # beyond twice of it Pillow itself refuses, below it only warns
def test_bombs_are_refused(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (16, 16)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(BadImage, match=f"is refused: more than {most} pixels"):
        read_image(path, (8, 8))


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (image_key, lambda path: read_image(path, (8, 8))):
        with pytest.raises(BadImage, match=r"pipe is no file\. Remove or mend it$"):
            read(tmp_path / "pipe")


def test_folders_and_a_table_label_images(tmp_path: Path) -> None:
    for name in ("woman/dark/a.png", "woman/b.png", "c.png", ".hidden/d.png", ".e.png"):
        saved(tmp_path / name, flag(RED))
    (tmp_path / "labels.csv").write_text('file,role, tone\nwoman/b.png,nurse,\n"c.png",  pilot ,light\n')
    (tmp_path / "woman" / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = {f.name: f.labels for f in list_images(tmp_path)}
    assert found == {
        "woman/dark/a.png": ("woman", "dark"),
        "woman/b.png": ("woman", "nurse"),
        "c.png": ("pilot", "light"),
    }


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ("file,label\nb.png,x\n", "names 'b.png', which is not in"),
        ("path,label\na.png,x\n", "has no column `file`. Its first line may be: file,label"),
        ("file,label\na.png,x\na.png,y\n", "names 'a.png' twice. Put all labels of an image into one line"),
        ("", "has no column `file`"),
    ],
)
def test_a_wrong_table_is_one_line(table: str, wrong: str, tmp_path: Path) -> None:
    saved(tmp_path / "a.png", flag(RED))
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(ScalexError) as error:
        list_images(tmp_path)
    assert wrong in str(error.value)


def test_folders_that_give_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"holds no images\. Name a folder with images in it"):
        list_images(tmp_path)
    with pytest.raises(ScalexError, match=r"absent cannot be read \(No such file or directory\)\. Name another folder"):
        list_images(tmp_path / "absent")


def test_a_folder_without_permission_is_named(guarded: Path) -> None:
    effective = os.geteuid()
    os.seteuid(os.getuid())
    guarded.chmod(0)
    os.seteuid(effective)
    with pytest.raises(
        ScalexError, match=rf"^the folder {guarded} cannot be read \(Permission denied\)\. Name another"
    ):
        list_images(guarded)


def test_a_key_is_of_the_content(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.png", flag(RED)), saved(tmp_path / "x" / "b.png", flag(RED))
    assert image_key(a) == image_key(b) != image_key(saved(tmp_path / "c.png", flag(BLUE)))


# ---------------------------------------------------------------------------------------------------- latents
def noise_pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), np.uint8)


def test_images_are_read_as_plain_calls_read_them(ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    """An independent way: diffusers' own autoencoder, noise and U-Net with a plain hook."""
    pictures, level, found = noise_pictures(2), 100, {}
    capture_pictures(
        ddim,
        {"a": pictures[0], "b": pictures[1]},
        [("a", 3), ("b", 5)],
        Plan(level=level, pooling="full"),
        lambda _, batch, values: found.update(zip(batch, values, strict=True)),
    )
    pipe, seen = StableDiffusionPipeline.from_pretrained(tiny_folder(), safety_checker=None), []
    pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    empty, _ = pipe.encode_prompt("", "cpu", 1, False)
    for picture, (key, seed) in zip(pictures, found, strict=True):
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            clean = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
            noise = start_noise(seed, ddim.latent_shape, 1)[None]
            pipe.unet(pipe.scheduler.add_noise(clean, noise, torch.tensor([level])), level, empty)
        np.testing.assert_allclose(found[key, seed][0], seen[-1][0].numpy().ravel(), rtol=1e-5, atol=1e-5)


def test_the_size_of_pictures_is_the_decoders(ddim: Model) -> None:
    assert picture_size(ddim) == (16, 16)


def test_recipes_hold_what_determines_a_reading(ddim: Model) -> None:
    plan = Plan(guidance=3.0)
    image, drawn, picture = image_recipe(ddim, plan), drawn_recipe(ddim, plan), plan.recipes(ddim)["picture"]
    assert len({image.id, drawn.id, picture.id}) == 3
    trajectory = replace(plan, steps=7, guidance=2.0, keep={"picture": (0, 1)})
    assert image_recipe(ddim, trajectory) == image
    assert drawn_recipe(ddim, trajectory) != drawn
    for other in (replace(plan, level=50), replace(plan, pooling="full")):
        assert image_recipe(ddim, other) != image


def files_in(folder: Path, n: int = 3) -> list[ImageFile]:
    for i, pixels in enumerate(noise_pictures(n)):
        saved(folder / f"{i}.png", Image.fromarray(pixels))
    return list_images(folder)


def test_what_is_stored_is_not_read_again(ddim: Model, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    store = Store.open(tmp_path / "store")
    reader = Reader(ddim, Plan(), store, (0, 1), lambda done, total: told.append((done, total)))
    files = files_in(tmp_path / "some")
    first, skipped = reader.files(files[:2])
    assert (told, skipped, [p.concept for p in first.prompts]) == ([(0, 2), (2, 2)], {}, ["0.png", "1.png"])
    told.clear()
    again, _ = reader.files(files)  # one more, and the third is a copy of it under another name
    assert told == [(0, 1), (1, 1)]
    np.testing.assert_array_equal(again.values[:2], first.values)
    more, _ = replace(reader, seeds=(0, 1, 2)).files(files)
    np.testing.assert_array_equal(more.values[:, :2], again.values)


def test_copies_are_read_once_and_bad_files_are_left_out(ddim: Model, tmp_path: Path) -> None:
    files_in(tmp_path / "some", 1)
    (tmp_path / "some" / "copy.png").write_bytes((tmp_path / "some" / "0.png").read_bytes())
    bad_files(tmp_path / "some")
    told: list[tuple[int, int]] = []
    reader = Reader(ddim, Plan(), Store.open(tmp_path / "store"), (0,), lambda *n: told.append(n))
    latents, skipped = reader.files(list_images(tmp_path / "some"))
    assert [p.concept for p in latents.prompts] == ["0.png", "copy.png", "whole.png"]
    assert sorted(skipped) == ["cut.png", "huge.png", "junk.png", "notes.txt"]
    assert skipped["notes.txt"] == "is no image"
    np.testing.assert_array_equal(latents.values[0], latents.values[1])
    assert told[-1] == (6, 6)


def test_drawn_pictures_are_read_like_files(ddim: Model, tmp_path: Path) -> None:
    """The same picture, once drawn and read, once saved as a file and read."""
    plan, text = Plan(steps=2, guidance=1.0), "a photo of a nurse"
    reader = Reader(ddim, plan, Store.open(tmp_path / "store"), (0, 1))
    drawn = reader.drawn([Prompt(text, "nurse", "")], (7, 8))
    pictures = generate(ddim, [(text, 7), (text, 8)], plan)
    files = [ImageFile(saved(tmp_path / f"{i}.png", Image.fromarray(p)), str(i)) for i, p in enumerate(pictures)]
    read, _ = reader.files(files)
    np.testing.assert_allclose(drawn.values, read.values, rtol=1e-5, atol=1e-5)
    assert [p.concept for p in drawn.prompts] == ["nurse", "nurse"]


# ---------------------------------------------------------------------------------------------------- agreement
def two_sets(
    rng: np.random.Generator, gap: float = 1.0, n: int = 12, width: int = 8, seeds: int = 6, tilt: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of two kinds that differ along an axis, and the prompts' direction, tilted from it by an angle."""
    shows = np.arange(n) % 2 == 0
    axis, off = np.eye(width)[0], np.eye(width)[1]
    x = rng.normal(size=(n, 1, width)) + 0.1 * rng.normal(size=(n, seeds, width)) + gap * shows[:, None, None] * axis
    along = math.cos(tilt) * axis + math.sin(tilt) * off + 0.2 * rng.normal(size=(seeds, width))
    return x, shows, along


def test_p_is_scipys_exact_one() -> None:
    x, shows, along = two_sets(np.random.default_rng(1), gap=0.7, n=10)
    ours = agreement(matched(x, shows, [0] * 10), along, RULES)
    scores = x.mean(1) @ along.mean(0)
    theirs = scipy_stats.permutation_test(
        (scores[shows], scores[~shows]),
        lambda a, b, axis: np.abs(a.mean(axis) - b.mean(axis)),
        alternative="greater",
        vectorized=True,
    )
    assert ours.p == pytest.approx(theirs.pvalue)
    assert 0.02 < ours.p < 0.9


def test_random_shuffles_come_near_the_exact_p() -> None:
    x, shows, along = two_sets(np.random.default_rng(1), gap=0.7, n=10)
    sets = matched(x, shows, [0] * 10)
    exact, drawn = (agreement(sets, along, Rules(permutations=n)).p for n in (252, 251))
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=0.1)
    many = agreement(matched(*two_sets(np.random.default_rng(2), gap=3.0, n=40)[:2], [0] * 40), along, RULES)
    assert many.p == 1 / (1 + RULES.permutations)


def test_labels_stay_in_their_group() -> None:
    group = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    weights = Sets(np.zeros((9, 1, 1)), np.array([1, 0, 0, 1, 0, 1, 1, 1, 0], bool), group).weights
    every = _arrangements(weights, group, 999)
    assert every is not None
    assert len(every) == len({tuple(row) for row in every.round(6)}) == 3 * 2 * 4
    for block in (every, *_shuffles(weights, group, RULES)):
        for g in range(3):
            expected = np.broadcast_to(np.sort(weights[group == g]), block[:, group == g].shape)
            np.testing.assert_allclose(np.sort(block[:, group == g], axis=1), expected)


def test_p_is_uniform_where_labels_mean_nothing() -> None:
    """200 null sets in two groups; Kolmogorov-Smirnov at 0.1 %."""
    rules, p = Rules(permutations=199), []
    for seed in range(200):
        x, shows, along = two_sets(np.random.default_rng(seed), gap=0.0, n=24)
        p.append(agreement(matched(x, shows, [i % 3 for i in range(24)]), along, rules).p)
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("tilt", [0.0, 1.2])
def test_intervals_cover_the_cosine_that_noise_free_sets_would_have(tilt: float) -> None:
    """200 pairs of sets with much signal, so that little is lost to noise. Of 95 % intervals at least 90 % cover."""
    covered = 0
    for seed in range(200):
        x, shows, along = two_sets(np.random.default_rng(seed), gap=8.0, n=60, tilt=tilt)
        a = agreement(matched(x, shows, [0] * 60), along, Rules(permutations=9))
        assert a.low <= a.cosine <= a.high
        expected = math.cos(tilt) if tilt else a.ceiling
        covered += a.low <= expected <= a.high
    assert covered >= 180


def test_the_ceiling_is_what_two_measurements_of_one_direction_reach() -> None:
    found = [agreement(matched(x, s, [0] * 30), w, Rules(permutations=9)) for x, s, w in _noisy_pairs(100)]
    cosines, ceilings = np.mean([a.cosine for a in found]), np.mean([a.ceiling for a in found])
    assert cosines < 0.9
    assert ceilings == pytest.approx(cosines, abs=0.05)


def _noisy_pairs(n: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [two_sets(np.random.default_rng(i), gap=2.0, n=30) for i in range(n)]


def test_leaving_an_image_out_is_fitting_anew() -> None:
    """Against least squares with a constant for each group, fitted again without each image."""
    rng = np.random.default_rng(0)
    group, shows = np.repeat([0, 1, 2], [4, 5, 3]), np.array([1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0], bool)
    x = rng.normal(size=(12, 3))
    left = _left_out(x, Sets(x[:, None], shows, group).weights, group)
    design = np.column_stack([shows, *(group == g for g in range(3))]).astype(float)
    for i in range(12):
        kept = np.arange(12) != i
        expected = np.linalg.lstsq(design[kept], x[kept], rcond=None)[0][0]
        np.testing.assert_allclose(left[i], expected, atol=1e-9)


def test_leaving_a_group_out_is_fitting_anew() -> None:
    rng, group = np.random.default_rng(0), np.repeat(np.arange(5), 2)
    shows, x = np.tile([True, False], 5), rng.normal(size=(10, 3))
    left = _left_out(x, Sets(x[:, None], shows, group).weights, group)
    pairs = x[shows] - x[~shows]
    np.testing.assert_allclose(left, [np.delete(pairs, g, 0).mean(0) for g in range(5)])


def test_matching_takes_out_what_goes_with_the_labels() -> None:
    """Eight of ten pilots are men: unmatched, the direction is that of pilots; matched, that of gender."""
    rng, width = np.random.default_rng(3), 6
    roles = ["pilot"] * 10 + ["nurse"] * 10
    shows = np.array([i in (0, 1) for i in range(10)] + [i not in (0, 1) for i in range(10)])
    x = 0.1 * rng.normal(size=(20, 4, width))
    x[:10, :, 1] += 5
    x[shows, :, 0] += 1
    along = np.tile(np.eye(width)[0], (4, 1)) + 0.01 * rng.normal(size=(4, width))
    mixed, alike = (agreement(matched(x, shows, what), along, RULES) for what in ([0] * 20, roles))
    assert mixed.cosine < 0.5
    assert alike.cosine > 0.95


def test_images_without_a_match_are_compared_all_together() -> None:
    x, shows, _ = two_sets(np.random.default_rng(0), n=12)
    assert matched(x, shows, list(range(12))).groups == 1
    some = matched(x, shows, [0] * 6 + list(range(1, 7)))
    assert (some.groups, len(some.x)) == (1, 6)
    assert matched(x, shows, [i // 2 for i in range(12)]).groups == 6


@pytest.mark.parametrize("spoil", ["one of a kind", "all the same", "no direction"])
def test_what_carries_no_direction_has_no_number(spoil: str) -> None:
    x, shows, along = two_sets(np.random.default_rng(0))
    if spoil == "one of a kind":
        shows = np.arange(12) == 0
    elif spoil == "all the same":
        x = np.ones_like(x)
    else:
        along = np.zeros_like(along)
    assert all(map(math.isnan, agreement(matched(x, shows, [0] * 12), along, RULES)))


# ---------------------------------------------------------------------------------------------------- judging
def prompts_of(names: Sequence[str], rng: np.random.Generator, seeds: int = 8, width: int = 24) -> Latents:
    """Names far apart, men and women of each along one axis, under noise that all share by seed."""
    shared = 5 * rng.normal(size=(seeds, width))
    bases = {name: 3 * rng.normal(size=width) for name in names}
    rows, prompts = [], []
    for name in names:
        for value, side in (("", 0.0), ("man", -1.0), ("woman", 1.0)):
            at = bases[name] + 2 * side * np.eye(width)[0]
            rows.append(at + shared + 0.3 * rng.normal(size=(seeds, width)))
            prompts.append(Prompt(f"{value} {name}", name, "{}", "gender" if value else "", value))
    return Latents(np.array(rows)[:, :, None].astype(np.float32), tuple(prompts), tuple(range(seeds)), (0,), "picture")


def images_like(
    prompts: Latents, labels: Sequence[tuple[str, str]], rng: np.random.Generator, seeds: int = 3
) -> Latents:
    """Images of (name, gender), read with the first seeds."""
    rows = [prompts.of(name, "gender", gender)[0, :seeds] for name, gender in labels]
    values = np.array(rows) + 0.3 * rng.normal(size=(len(rows), 1, rows[0].shape[-1]))
    made = tuple(Prompt(f"image:{i}", f"{i}.png", "") for i in range(len(rows)))
    return Latents(values[:, :, None].astype(np.float32), made, tuple(range(seeds)), (0,), "picture")


NAMES = [f"name {i}" for i in range(8)]
LABELS = [(name, gender) for name in NAMES for gender in ("man", "woman")]


def scene() -> tuple[Latents, Latents]:
    rng = np.random.default_rng(0)
    prompts = prompts_of(NAMES, rng)
    return images_like(prompts, LABELS, rng), prompts


def test_planted_directions_and_names_are_found() -> None:
    images, prompts = scene()
    found, tables = judge(images, LABELS, prompts, GENDER, "album", images, RULES)
    [gender] = [f for f in found if f.unit == "cosine"]
    assert (gender.target, gender.value, gender.verdict) == ("album", "woman", "agrees")
    assert gender.estimate > 0.9
    assert gender.separability > 0.95
    assert "8 images of woman, 8 of man, in 8 groups alike in all other labels" in gender.reason
    assert list(tables["images"].name) == [name for name, _ in LABELS]
    assert (tables["images"].margin > 0).all()
    [nearest, five] = [f for f in found if f.unit == "share"]
    assert (nearest.value, nearest.estimate, nearest.verdict) == ("nearest of 8", 1.0, "found again")
    assert (five.value, five.reason) == ("among the nearest 5 of 8", "16 images of 8 names; chance is 62%")
    leans = tables["positions"].groupby("label").lean.mean()
    assert leans["man"] == pytest.approx(-0.5, abs=0.15)
    assert leans["woman"] == pytest.approx(0.5, abs=0.15)


def test_exchanged_labels_oppose() -> None:
    images, prompts = scene()
    other = {"man": "woman", "woman": "man"}
    found, _ = directions(images, [(n, other[g]) for n, g in LABELS], prompts, GENDER, "album", RULES)
    assert concluded(found, RULES)[0].verdict == "opposes"


def test_shuffled_labels_decide_nothing() -> None:
    images, prompts = scene()
    halves = [(n, ("man", "woman")[(i // 2 + i) % 2]) for i, (n, _) in enumerate(LABELS)]
    found, _ = directions(images, halves, prompts, GENDER, "album", RULES)
    assert concluded(found, RULES)[0].verdict == "undecided"


def test_three_values_give_a_row_each() -> None:
    rng, width = np.random.default_rng(0), 6
    ages = ("young", "middle", "old")
    prompts = [Prompt(f"{v} x", "x", "{}", "age" if v else "", v) for v in ("", *ages)]
    values = np.stack([np.zeros(width), *np.eye(width)[:3]])[:, None, None] + 0.05 * rng.normal(size=(4, 6, 1, width))
    latents = Latents(values.astype(np.float32), tuple(prompts), tuple(range(6)), (0,), "picture")
    labels = [(age,) for age in ages for _ in range(6)]
    x = np.eye(width)[np.repeat([0, 1, 2], 6)][:, None, None] + 0.3 * rng.normal(size=(18, 2, 1, width))
    images = Latents(
        x.astype(np.float32), tuple(Prompt(str(i), str(i), "") for i in range(18)), (0, 1), (0,), "picture"
    )
    found, table = directions(images, labels, latents, {"age": ages}, "album", RULES)
    assert [(f.value, f.estimate > 0.8) for f in found] == [(age, True) for age in ages]
    assert list(table.against) == ["the others"] * 3
    assert positions(images, labels, ["x"] * 18, latents, {"age": ages}).empty


def test_some_of_the_seeds_place_an_image_where_all_do() -> None:
    """The noise that prompts share by seed is fifteen times an image's own; it must not move the image."""
    _, prompts = scene()
    x = np.stack([prompts.of(name)[0] for name in NAMES]).astype(np.float64)
    names = Names.of(prompts)
    np.testing.assert_allclose(names.place(x[:, :3]), names.place(x), atol=1.0)


def test_names_rank_and_ties_count_against_them() -> None:
    cosines = np.array([[0.9, 0.1, 0.3], [0.5, 0.5, 0.1], [math.nan] * 3])
    np.testing.assert_array_equal(rank_of(cosines, np.array([2, 0, 1])), [2, 2, 3])


def test_an_image_like_the_mean_of_all_has_no_name() -> None:
    _, prompts = scene()
    names = Names.of(prompts)
    middle = Latents(
        names.centre[None, :, None].astype(np.float32),
        (Prompt("image:0", "0.png", ""),),
        prompts.seeds,
        (0,),
        "picture",
    )
    exact = replace(middle, values=names.centre[None, :, None])
    row = names_of(exact, [()], names, RULES).iloc[0]
    assert (row["name"], row["nearest"]) == ("", "")
    assert math.isnan(row["cosine"])


def test_a_vocabulary_without_any_difference_names_nothing() -> None:
    _, prompts = scene()
    same = replace(prompts, values=np.ones_like(prompts.values))
    rows = names_of(images_like(same, LABELS, np.random.default_rng(0)), [()] * 16, Names.of(same), RULES)
    assert set(rows["name"]) == {""}


def many(n: int) -> tuple[Latents, list[str]]:
    names = [f"name {i}" for i in range(n)]
    return prompts_of(names, np.random.default_rng(3), width=96), names


def test_images_of_what_no_prompt_stands_for_are_left_without_a_name() -> None:
    """The mark, 5 %, is twice what a random direction is allowed; images of the names themselves are all named."""
    prompts, named = many(40)
    names, rng = Names.of(prompts), np.random.default_rng(4)
    images = images_like(prompts, [(name, "man") for name in named], rng)
    rows = names_of(images, [()] * 40, names, RULES)
    assert list(rows["name"]) == list(rows["nearest"]) == named
    spread = np.std(names.points)
    for scale in (0.3, 1.0, 5.0):  # its distance from the mean of all does not matter
        strange = scale * spread * rng.normal(size=(200, 1, 96)) + names.centre[:3]
        made = tuple(Prompt(f"image:{i}", f"{i}.png", "") for i in range(200))
        read = Latents(strange[:, :, None].astype(np.float32), made, (0, 1, 2), (0,), "picture")
        rows = names_of(read, [()] * 200, names, RULES)
        assert (rows["name"] != "").mean() <= 0.05
        assert (rows["nearest"] != "").all()
        assert (rows["needed"] == names.needed(RULES)).all()


def test_among_few_names_each_image_gets_the_nearest() -> None:
    assert Names.of(many(11)[0]).needed(RULES) == -math.inf
    assert 0 < Names.of(many(12)[0]).needed(RULES) < 1


def test_the_lines_say_where_nothing_fits() -> None:
    row = {"file": "a.png", "labels": "", "nearest": "judge", "cosine": 0.4, "needed": 0.55, "second": "cook"}
    table = pd.DataFrame(
        [row | {"name": "judge", "cosine": 0.9}, row | {"name": ""}, row | {"name": "", "nearest": ""}]
    )
    told = list(Conditioned(pd.DataFrame(), {"images": table}, {}, Path("run"), Path("album")).lines(3))
    assert told[0] == "a.png: judge (cosine 0.90, then cook)"
    assert told[1] == f"a.png: {UNFIT}, the nearest is judge (cosine 0.40, then cook); a name must reach about 0.55"
    assert told[2] == f"a.png: {UNFIT}"


def test_a_run_with_one_prompt_names_nothing() -> None:
    prompts = prompts_of(["nurse"], np.random.default_rng(0))
    with pytest.raises(ScalexError, match=r"the run has 1 prompt to name images with\. Audit two concepts or more"):
        Names.of(prompts)


def test_images_of_one_name_are_no_independent_draws() -> None:
    images, prompts = scene()
    thrice = replace(
        images,
        values=np.concatenate([images.values] * 3),
        prompts=images.prompts * 3,
    )
    own = [name for name, _ in LABELS]
    once, more = (found_again(x, o, Names.of(prompts), "t", RULES, 1)[0] for x, o in ((images, own), (thrice, own * 3)))
    assert (once.low, once.p) == (more.low, more.p)


@pytest.mark.parametrize(
    ("labels", "value"), [(["Woman", "x"], "woman"), (["man", "woman"], ""), ([], ""), (["womanly"], "")]
)
def test_a_label_is_a_value(labels: list[str], value: str) -> None:
    assert value_of(labels, ("man", "woman")) == value


def test_attributes_that_are_asked_for_must_be_there() -> None:
    labels, known = [("man",), ("woman",), ("dark",)], {**GENDER, "tone": ("light", "dark")}
    assert attributes_in(labels, known) == ["gender"]
    with pytest.raises(ScalexError, match=r"the run has no attribute 'gendr'\. Did you mean 'gender'\?"):
        attributes_in(labels, known, ["gendr"])
    with pytest.raises(ScalexError, match=r"no two values of 'tone' are among .* named so \(light, dark\), or write a"):
        attributes_in(labels, known, ["tone"])


# ---------------------------------------------------------------------------------------------------- the panel
def panel_of(verdict: str = "agrees") -> Any:
    images, prompts = scene()
    found, tables = judge(images, LABELS, prompts, GENDER, "album", images, RULES)
    frame = pd.DataFrame(
        [vars(f) if hasattr(f, "__dict__") else {c: getattr(f, c) for c in f.columns()} for f in found]
    )
    frame.loc[frame.unit == "cosine", "verdict"] = verdict
    tables["shown"] = tables["images"][["file", "labels", "name"]].assign(picture="data:image/webp;base64,AAAA")
    return panels(frame, {f"{part.NAME}-picture-{name}": t for name, t in tables.items()}, {})


def test_the_panel_says_what_was_found() -> None:
    [(name, panel)] = panel_of()
    assert (name, panel.heading) == (part.NAME, "Images agree with words on gender")
    assert "16 images were read" in panel.paragraphs[0]
    assert [f.title for f in panel.figures] == [
        "What the model calls these images",
        "Between man and woman: each image beside the variants of what it is called",
    ]
    assert panel.figures[0].wide.count("<image") == 16
    assert panel.figures[1].wide.count("<title>") == 16
    assert [listing.rows[0][0] for listing in panel.listings] == ["gender", "0.png"]


def test_the_panel_says_how_many_images_no_concept_fits() -> None:
    images, prompts = scene()
    found, tables = judge(images, LABELS, prompts, GENDER, "album", None, RULES)
    tables["images"].loc[:2, "name"] = ""
    tables["shown"] = tables["images"][["file", "labels", "name"]].assign(picture="data:image/webp;base64,AAAA")
    frame = pd.DataFrame([{c: getattr(f, c) for c in f.columns()} for f in found])
    [(_, panel)] = panels(frame, {f"{part.NAME}-picture-{name}": t for name, t in tables.items()}, {})
    told = "13 of them were named by the nearest prompt; for 3 images no concept of this vocabulary fits."
    assert panel.paragraphs[0] == f"16 images were read, and {told}"
    assert panel.listings[-1].rows[0][2:4] == ("none fits", "name 0")


def test_the_panels_heading_follows_the_verdicts() -> None:
    assert panel_of("opposes")[0][1].heading == "Images go against the words on gender"
    assert panel_of("undecided")[0][1].heading == "Images do not settle whether words are right"


# ---------------------------------------------------------------------------------------------------- the whole way
@pytest.fixture(scope="module")
def tiny_run(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images") / "run"
    scalex.audit(tiny_folder(), TINY, out=out)
    return out


TINY = {
    "steps": 2,
    "guidance": 1.0,
    "seeds": 4,
    "templates": ["a photo of a {}"],
    "concepts": ["farmer", "pilot", "nurse"],
    "attributes": {"gender": {"man": "man {}", "woman": "woman {}"}},
    "resamples": 200,
    "permutations": 199,
}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for i, pixels in enumerate(noise_pictures(6)):
        saved(tmp_path / "album" / ("man", "woman")[i % 2] / f"{i}.png", Image.fromarray(pixels))
    (tmp_path / "album" / "notes.txt").write_text("x")
    return tmp_path / "album"


def test_from_a_folder_to_the_report(tiny_run: Path, album: Path) -> None:
    done = condition(album, tiny_run, seeds=2)
    assert done.skipped == {"notes.txt": "is no image"}
    told = json.loads((tiny_run / "images.json").read_text())
    assert [row["file"] for row in told["images"]] == [
        f"{k}/{i}.png" for k, i in sorted(zip(["man", "woman"] * 3, range(6)))
    ]
    assert (told["findings"][0]["attribute"], told["findings"][0]["unit"]) == ("gender", "cosine")
    page = (tiny_run / "report.html").read_text()
    assert 'id="panel-image_conditioning"' in page
    scalex.analyze(tiny_run)
    assert 'id="panel-image_conditioning"' in scalex.render_report(tiny_run).read_text()
    counts: list[tuple[int, int]] = []
    condition(album, tiny_run, seeds=2, progress=lambda *n: counts.append(n), drawing=lambda *n: counts.append(n))
    assert {total for _, total in counts} == {1}  # only the text is looked at again


def test_another_audit_in_the_same_folder_drops_what_images_told(
    album: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    scalex.audit(tiny_folder(), TINY, out=tmp_path / "run")
    condition(album, tmp_path / "run", seeds=1, draw=0)
    page = scalex.audit(tiny_folder(), {**TINY, "concepts": ["farmer", "pilot"]}, out=tmp_path / "run").report
    assert 'id="panel-image_conditioning"' not in page.read_text()


def test_the_command_prints_findings_names_and_warnings(tiny_run: Path, album: Path) -> None:
    shown = CliRunner().invoke(app, ["images", str(album), "--run", str(tiny_run), "--draw", "0", "--seeds", "1"])
    assert shown.exit_code == 0, shown.output
    assert "album gender woman cosine: " in shown.stdout
    assert "man/0.png: " in shown.stdout
    assert "scalex: warning: notes.txt is no image\nscalex: warning: 1 file skipped" in shown.stderr


def test_a_run_without_pictures_or_with_another_model_is_told(
    album: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    asked = {**TINY, "readings": ["text"], "analyses": ["defaults"]}
    scalex.audit(tiny_folder(), asked, out=tmp_path / "text")
    with pytest.raises(ScalexError, match=r"has no picture reading\. Audit with `readings: \[text, picture\]`"):
        condition(album, tmp_path / "text")
    scalex.audit(tiny_folder(), TINY, out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["spec"]["model"] = str(tiny_folder(seed=1))
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ScalexError, match=r"is not any more the one that was captured\. Put it back, or audit again"):
        condition(album, tmp_path / "run")


def test_a_folder_without_one_good_image_is_told(tiny_run: Path, tmp_path: Path) -> None:
    bad_files(tmp_path / "bad")
    (tmp_path / "bad" / "whole.png").unlink()
    with pytest.raises(ScalexError, match=r"no file in .* is an image that can be read: cut\.png is broken"):
        condition(tmp_path / "bad", tiny_run)


# ---------------------------------------------------------------------------------------------------- the truth
def test_people_held_out_are_of_other_roles() -> None:
    spec = load_truth(EMBEDDED).spec
    try:
        album = held_out_people(spec)
    except ScalexError as error:
        pytest.skip(str(error))
    assert not {s.name for s in album.shown} & set(spec.roles)
    assert not {s.emoji for s in album.shown} & {s.emoji for s in load_truth(EMBEDDED).shown}
    counts = pd.Series([s.name for s in album.shown]).value_counts()
    assert len(counts) >= 30
    assert (counts == 10).all()
