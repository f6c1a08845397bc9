"""Directions: what they are made of, what a file of one holds, and what is said of a file that is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from scalex.direction_files import (
    Direction,
    Provenance,
    attribute_directions,
    check_fits,
    concept_direction,
    directions_of,
    load_direction,
    save_direction,
    stamped,
)
from scalex.errors import ScalexError
from scalex.records import Latents, Prompt, Recipe

RECIPE = Recipe(
    **{"model": "f" * 64, "reading": "picture", "sampler": "LCM", "steps": 4, "guidance": 1.0, "keep": (3,)},
    **{"level": 100, "probe": "mid_block", "pooling": "mean", "dtype": "fp32", "latent_shape": (8, 8, 8)},
)
OF = Provenance("gender: man to woman", "attribute", "picture", 3, (5, 6, 7))
BY_SEED = np.arange(12.0).reshape(3, 4)
DIRECTION = Direction(BY_SEED.mean(0), OF, BY_SEED)


def latents(**forms: dict[tuple[str, str], float]) -> Latents:
    """Latents of concepts whose forms lie at these places along every axis, plus their seed; two templates."""
    prompts, rows = [], []
    for concept, places in forms.items():
        for (attribute, value), at in places.items():
            for template in ("a {}", "the {}"):
                prompts.append(Prompt(f"{value} {concept}", concept, template, attribute, value))
                rows.append(np.full((4, 1, 3), at) + np.arange(4)[:, None, None] + len(template))
    return Latents(np.array(rows, np.float32), tuple(prompts), (0, 1, 2, 3), (3,), "picture")


# ---- from latents ----


def test_an_attribute_of_two_values_is_the_way_from_first_to_second_over_all_concepts() -> None:
    held = latents(
        pilot={("", ""): 0.0, ("gender", "man"): 1.0, ("gender", "woman"): 3.0},
        nurse={("", ""): 9.0, ("gender", "man"): 5.0, ("gender", "woman"): 11.0},
    )
    [found] = directions_of(held, {"gender": ("man", "woman")})
    told = {"concepts": ("pilot", "nurse"), "templates": ("a {}", "the {}")}
    assert found.of == Provenance("gender: man to woman", "attribute", "picture", 3, (0, 1, 2, 3), **told)
    assert found.n_seeds == 4
    np.testing.assert_allclose(found.vector, np.full(3, 4.0))
    assert found.by_seed is not None
    np.testing.assert_allclose(found.by_seed.mean(0), found.vector)


def test_of_more_values_each_is_measured_from_the_mean_of_the_others() -> None:
    held = latents(pilot={("age", "young"): 1.0, ("age", "grown"): 2.0, ("age", "old"): 6.0})
    found = list(attribute_directions(held, "age", ("young", "grown", "old")))
    assert [f.name for f in found] == ["age: young", "age: grown", "age: old"]
    assert [f.vector[0] for f in found] == pytest.approx([-3.0, -1.5, 4.5])


def test_a_concept_is_measured_from_the_reference_or_from_all() -> None:
    held = latents(pilot={("", ""): 1.0}, nurse={("", ""): 5.0})
    assert concept_direction(held, "nurse").vector[0] == pytest.approx(2.0)
    prompts = (*held.prompts, *(replace(p, concept="person", role="reference") for p in held.prompts[:2]))
    more = replace(held, values=np.concatenate([held.values, held.values[:2] - 1]), prompts=prompts)
    assert concept_direction(more, "nurse", reference="person").vector[0] == pytest.approx(5.0)


def test_a_seed_is_left_out_where_it_was_learned_from() -> None:
    left = DIRECTION.without([6, 99])
    np.testing.assert_allclose(left[0], BY_SEED[[0, 2]].mean(0))
    np.testing.assert_allclose(left[1], DIRECTION.vector)
    given = replace(DIRECTION, by_seed=None).without([6])
    np.testing.assert_allclose(given[0], DIRECTION.vector)


# ---- files ----


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = stamped(DIRECTION, RECIPE)
    file = save_direction(saved, tmp_path / "new" / "gender.safetensors")
    found = load_direction(file)
    assert replace(found.of, scalex="", made="") == saved.of
    assert (found.of.scalex, found.of.made) == (version("scalex-diffusion"), datetime.now(UTC).date().isoformat())
    assert (found.of.model, found.of.probe, found.of.recipe) == (RECIPE.model, "mid_block", RECIPE.id)
    np.testing.assert_array_equal(found.vector, saved.vector)
    assert found.by_seed is not None
    np.testing.assert_array_equal(found.by_seed, BY_SEED)
    check_fits(found, RECIPE, 4)
    bare = load_direction(save_direction(replace(DIRECTION, by_seed=None), tmp_path / "bare.safetensors"))
    assert bare.by_seed is None
    check_fits(bare, RECIPE, 4)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "a" * 64}, 4, "has another model (ffffffffffff) than the latents (aaaaaaaaaaaa)"),
    ({"reading": "text"}, 4, "has another reading (picture) than the latents (text)"),
    ({"probe": "down_block"}, 4, "has another probe (mid_block) than the latents (down_block)"),
    ({"pooling": "full"}, 4, "has another pooling (mean) than the latents (full)"),
    ({}, 5, "has another width (4) than the latents (5)"),
]


@pytest.mark.parametrize(("changes", "width", "expected"), WRONG)
def test_a_direction_of_something_else_is_refused(changes: dict[str, Any], width: int, expected: str) -> None:
    with pytest.raises(ScalexError, match=re.escape(f"direction 'gender: man to woman' {expected}")):
        check_fits(stamped(DIRECTION, RECIPE), replace(RECIPE, **changes), width)


def _metadata(**changes: str) -> dict[str, str]:
    told = '{"name": "x", "origin": "y", "reading": "text", "step": 0, "seeds": []}'
    return {"format": "scalex direction", "version": "1", "of": told} | changes


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda f: None, "direction file FILE does not exist. Check the path"),
    "text": (lambda f: f.write_text("no"), "FILE is no direction file, or is damaged"),
    "weights": (lambda f: save_file({"w": np.ones(3)}, f), "FILE is no direction file. Make one with"),
    "new": (
        lambda f: save_file({"vector": np.ones(3)}, f, _metadata(version="9")),
        "direction file FILE has format version 9, this scalex knows 1. Update scalex",
    ),
    "told": (
        lambda f: save_file({"vector": np.ones(3)}, f, _metadata(of="[")),
        "direction file FILE does not say",
    ),
    "reading": (
        lambda f: save_file({"vector": np.ones(3)}, f, _metadata(of=_metadata()["of"].replace("text", "smell"))),
        "direction file FILE names no reading: 'smell'. Readings: text, picture",
    ),
    "matrix": (lambda f: save_file({"vector": np.ones((3, 3))}, f, _metadata()), "FILE holds no vector"),
    "nan": (
        lambda f: save_file({"vector": np.full(3, np.nan)}, f, _metadata()),
        "direction 'x' holds values that",
    ),
    "seeds": (
        lambda f: save_file({"vector": np.ones(3), "by_seed": np.ones((2, 3))}, f, _metadata()),
        "direction 'x' has 0 seeds of width 3, but what it holds by seed is (2, 3). Make it again",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    write, expected = BAD[name]
    file = tmp_path / "d.safetensors"
    write(file)
    with pytest.raises(ScalexError) as error:
        load_direction(file)
    assert str(error.value).replace(str(file), "FILE").startswith(expected)
