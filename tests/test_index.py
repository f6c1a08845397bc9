"""The nearest words of a direction: exact where every word is looked at, nearly so by cells; through a store, a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import scalex
from filler import RECIPE
from scalex import naming
from scalex.auditing import latents_of, open_run
from scalex.cli import main
from scalex.errors import ScalexError
from scalex.index import WordIndex
from scalex.nearest import Nearest, nearest
from scalex.records import Prompt
from scalex.store import Store

N, WIDTH = 3000, 64


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    """Far from the origin, unequally spread, in clusters."""
    rng = np.random.default_rng(0)
    spread = np.arange(1, WIDTH + 1) ** -0.5
    centres = rng.normal(size=(60, WIDTH)) * spread
    return 5 + centres[rng.integers(60, size=N)] + 0.5 * spread * rng.normal(size=(N, WIDTH))


def blocks(latents: np.ndarray) -> Iterator[tuple[list[str], np.ndarray]]:
    for start in range(0, len(latents), 700):
        yield [f"word {i}" for i in range(start, min(start + 700, len(latents)))], latents[start : start + 700]


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(20, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.5


def known(latents: np.ndarray, directions: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
    apart = latents - latents.mean(0)
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = units @ (apart / np.linalg.norm(apart, axis=1, keepdims=True)).T
    return [[(f"word {i}", row[i]) for i in np.argsort(-row)[:k]] for row in cosines]


def test_every_word_is_looked_at_where_they_are_few(
    tmp_path: Path, latents: np.ndarray, directions: np.ndarray
) -> None:
    index = WordIndex.build(tmp_path / "i", lambda: blocks(latents))
    np.testing.assert_allclose(index.centre, latents.mean(0))
    for found in (index.nearest(directions, 7), index.exact(directions, 7)):
        for near, right in zip(found, known(latents, directions, 7), strict=True):
            assert list(near.words) == [word for word, _ in right]
            np.testing.assert_allclose(near.cosines, [cosine for _, cosine in right], atol=1e-5)


def test_cells_find_nearly_all_with_exact_cosines(tmp_path: Path, latents: np.ndarray, directions: np.ndarray) -> None:
    index = WordIndex.build(tmp_path / "i", lambda: blocks(latents), indexed=1000)
    assert index._cells == 55
    right = known(latents, directions, 10)
    found = WordIndex.open(tmp_path / "i").nearest(directions, 10, probed=40, remeasured=30)
    hits = sum(len({*near.words} & {word for word, _ in row}) for near, row in zip(found, right, strict=True))
    assert hits >= 0.98 * 200
    few = index.nearest(directions, 10, probed=1)
    assert sum(len({*near.words} & {w for w, _ in row}) for near, row in zip(few, right, strict=True)) < hits
    for near, row in zip(found, right, strict=True):
        cosines = dict(row)
        told = [(c, cosines[w]) for w, c in zip(near.words, near.cosines) if w in cosines]
        np.testing.assert_allclose(*zip(*told), atol=1e-5)


def test_a_word_that_is_the_centre_is_near_to_nothing(tmp_path: Path) -> None:
    words = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 0]])
    index = WordIndex.build(tmp_path / "i", lambda: [(["a", "b", "mean"], words)])
    (near,) = index.nearest(np.array([[1.0, 0, 0]]), 3)
    assert near.words == ("a", "b")
    assert near.cosines.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("direction", "said"),
    [(np.zeros((1, 3)), "a direction without a length"), (np.ones((1, 4)), "a direction has width 4, but the words 3")],
)
def test_what_is_no_direction_is_refused(tmp_path: Path, direction: np.ndarray, said: str) -> None:
    index = WordIndex.build(tmp_path / "i", lambda: [(["a", "b"], np.array([[1.0, 0, 0], [0, 1, 0]]))])
    for ask in (index.nearest, index.exact):
        with pytest.raises(ScalexError, match=said):
            ask(direction)


def test_what_cannot_be_indexed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match="there are no words to be indexed"):
        WordIndex.build(tmp_path / "i", lambda: [])
    with pytest.raises(ScalexError, match="all words of the vocabulary give the same latents"):
        WordIndex.build(tmp_path / "i", lambda: [(["a", "b"], np.ones((2, 3)))])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    WordIndex.build(tmp_path / "i", lambda: [(["a", "b"], np.eye(2))])
    (tmp_path / "i" / "index.json").write_text('{"name": "other"}')
    with pytest.raises(ScalexError, match="holds no index of words that can be read"):
        WordIndex.open(tmp_path / "i")


def test_a_store_indexes_means_over_seeds_and_templates_once(tmp_path: Path) -> None:
    store, rng = Store.open(tmp_path / "s"), np.random.default_rng(0)
    prompts = [Prompt(f"{t} {i}", f"word {i}", t, role="word") for i in range(40) for t in ("a", "the")]
    values = rng.normal(size=(80, 4, 2, 6)).astype(np.float32)
    store.write(RECIPE, [(p.text, s) for p in prompts for s in range(4)], values.reshape(-1, 2, 6))
    index = store.index(RECIPE, prompts, range(4))
    means = values[:, :, -1].reshape(40, 8, 6).mean(1).astype(np.float64)
    asked = rng.normal(size=(3, 6))
    for near, right in zip(index.nearest(asked, 5), known(means, asked, 5), strict=True):
        assert list(near.words) == [word for word, _ in right]
    made = index.path.stat().st_mtime_ns
    assert store.index(RECIPE, prompts, range(4)).path.stat().st_mtime_ns == made
    assert store.index(RECIPE, prompts, range(4), step=0).path != index.path
    assert store.index(RECIPE, prompts[:60], range(4)).path != index.path
    assert [health.ok for health in store.verify()] == [True]
    assert [stored.recipe for stored in store.recipes()] == [RECIPE]


# Of a run

SPEC = {
    "seeds": 8,
    "templates": ["a photo of a {}"],
    "concepts": ["mechanic", "teacher"],
    "words": ["dog", "cat", "pizza", "car", "guitar", "tent", "rocket", "apple", "fish", "book"],
    "attributes": ["gender"],
    "analyses": ["defaults", "naming"],
    "resamples": 200,
    "permutations": 199,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scalex.audit(spec=SPEC, out=tmp_path_factory.mktemp("run")).folder


def test_the_nearest_of_a_concept_of_an_attribute_and_of_a_file(run: Path, tmp_path: Path) -> None:
    text, picture = nearest(run, concept="dog", top=3)
    assert (text.reading, picture.reading, picture.n_words) == ("text", "picture", 12)
    assert_nearest(run, picture, "dog")
    assert_nearest(run, text, "dog")
    (gender,) = nearest(run, attribute="gender", reading="picture")
    naming.name_run(run, attribute="gender", reading="picture", save=tmp_path / "gender.safetensors")
    (same,) = nearest(run, direction=tmp_path / "gender.safetensors")
    assert same.plus.words == gender.plus.words
    np.testing.assert_allclose(same.minus.cosines, gender.minus.cosines, atol=1e-5)


def assert_nearest(run: Path, found: Nearest, concept: str) -> None:
    """Held against cosines of the stored latents themselves."""
    latents = latents_of(open_run(run))[found.reading]
    words = [p.concept for p in latents.prompts if p.role == "word" or (p.role == "concept" and not p.attribute)]
    means = np.stack([latents.of(w, role="word" if w in SPEC["words"] else "concept").mean((0, 1)) for w in words])
    apart = means - means.mean(0)
    units = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    cosines = dict(zip(words, units @ units[words.index(concept)]))
    del cosines[concept]
    order = sorted(cosines, key=lambda word: -cosines[word])
    assert found.plus.words == tuple(order[:3])
    assert found.minus.words == tuple(order[::-1][:3])
    np.testing.assert_allclose(found.plus.cosines, [cosines[w] for w in order[:3]], atol=1e-5)
    np.testing.assert_allclose(-found.minus.cosines, [cosines[w] for w in order[::-1][:3]], atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "a direction comes from a file, an attribute or a concept"),
        ({"concept": "dog", "attribute": "gender"}, "Name one of the three"),
        ({"concept": "dgo"}, "this run has no word 'dgo'. Did you mean 'dog'"),
        ({"attribute": "tone"}, "this run has no attribute 'tone'"),
        ({"concept": "dog", "reading": "eye"}, "this run has no eye reading. Readings: text, picture"),
    ],
)
def test_what_a_run_does_not_hold_is_said(run: Path, asked: dict[str, str], said: str) -> None:
    with pytest.raises(ScalexError) as refused:
        nearest(run, **asked)
    assert said in str(refused.value)


def test_a_run_without_its_store_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved", ignore=lambda folder, names: {"store"} & {*names})
    with pytest.raises(ScalexError, match="is no store"):
        nearest(tmp_path / "moved", concept="dog")


def test_the_command_line_names_them(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["scalex", "nearest", str(run), "--concept", "dog", "--reading", "picture", "--top", "2"]
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", [*arguments, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        if more:
            assert [row["rank"] for row in json.loads(printed)] == [1, 2, 1, 2]
        else:
            lines = printed.splitlines()
            assert lines[0] == "dog (picture reading), nearest of 12 words:"
            assert len(lines) == 5
            assert lines[1].split()[2] == nearest(run, concept="dog", reading="picture", top=1)[0].plus.words[0]
