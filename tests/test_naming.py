"""Naming: words for directions that have one, silence for those that have none, and the way there without a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Float
from typer.testing import CliRunner

from scalex import analyses
from scalex.analyses._lexicon import best_of, lexicon
from scalex.analyses.naming import NAMED, PAIR, POLES, UNFIT, Naming, name_direction, namings, planted
from scalex.auditing import capture_run
from scalex.cli import app
from scalex.direction_files import Direction, Provenance, load_direction
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.naming import name_run
from scalex.organisms.spec import Pull
from scalex.records import Finding, Latents, Prompt, Rules
from scalex.report import parts
from scalex.truth.naming import _Bench

RULES = Rules(resamples=1000)
N_WORDS, N_SEEDS, WIDTH = 120, 12, 40
MOST = 8  # of 100 that mean nothing may be named: P(more | 2.5 %) = 0.0008


def anisotropic(rng: np.random.Generator, noise: float = 0.3, seeds: int = N_SEEDS) -> Latents:
    """Words that differ along three axes ten times as much as along all others, and their seeds' shared noise."""
    places = rng.normal(size=(N_WORDS, WIDTH)) * np.where(np.arange(WIDTH) < 3, 10.0, 1.0)
    prompts = tuple(Prompt(f"w{i}", f"w{i}", "{}", role="word") for i in range(N_WORDS))
    shared = 3 * rng.normal(size=(seeds, WIDTH))
    values = places[:, None] + shared + noise * rng.normal(size=(N_WORDS, seeds, WIDTH))
    return Latents(values[:, :, None], prompts, tuple(range(seeds)), (0,), "text")


def given(vector: Float[np.ndarray, "width"], name: str = "d") -> Direction:
    return Direction(vector, Provenance(name, "given", "text", 0))


def means(latents: Latents) -> Float[np.ndarray, "words width"]:
    z = latents.values[:, :, 0].mean(1)
    return np.asarray(z - z.mean(0))


@pytest.fixture(scope="module")
def words() -> Latents:
    return anisotropic(np.random.default_rng(0))


# ---- what is found ----


def test_words_and_their_opposites_are_named(words: Latents) -> None:
    rng, z = np.random.default_rng(1), means(words)
    found = namings([given(z[i] + 0.2 * rng.normal(size=WIDTH)) for i in range(0, N_WORDS, 6)], words, RULES)
    assert all(n.named() and n.words == f"w{6 * i}" for i, n in enumerate(found))
    away = name_direction(given(-z[7]), words, RULES)
    assert away.named()
    assert (away.minus[0].word, away.words) == ("w7", "away from w7")
    assert away.plus[0].p > 0.05


def test_the_way_from_one_word_to_another_is_named_by_both(words: Latents) -> None:
    z = means(words)
    way = z[8] - z[3]
    found = name_direction(given(way + 0.1 * np.linalg.norm(way) * np.ones(WIDTH) / WIDTH**0.5), words, RULES)
    assert found.pair is not None
    assert found.pair.word == "w3 → w8"
    assert found.pair.p == pytest.approx(1 / 1001)
    assert found.pair.cosine > found.beyond[1]


def test_cosines_are_those_of_the_shrunk_covariance(words: Latents) -> None:
    """Against the definition, with the whole matrix: half the covariance of the words, half its mean variance."""
    z, d = means(words), np.random.default_rng(2).normal(size=WIDTH)
    covariance = z.T @ z / N_WORDS
    metric = np.linalg.inv(covariance + np.trace(covariance) / WIDTH * np.eye(WIDTH))
    length = np.sqrt(np.einsum("wd,de,we->w", z, metric, z))
    expected = z @ metric @ d / length / np.sqrt(d @ metric @ d)
    found = name_direction(given(d), words, RULES, top=N_WORDS)
    told = {at.word: at.cosine for at in found.plus}
    np.testing.assert_allclose([told[f"w{i}"] for i in range(N_WORDS)], expected, atol=1e-9)
    assert [at.word for at in found.minus] == [at.word for at in found.plus][::-1]
    lex, rise = lexicon(words), d @ metric @ z.T
    gaps = z[None] - z[:, None]
    pairs = (rise[None] - rise[:, None]) / np.sqrt(np.maximum(np.einsum("uvd,de,uve->uv", gaps, metric, gaps), 1e-9))
    a, b = np.unravel_index(pairs.argmax(), pairs.shape)
    best = best_of(lex, lex.metric.units(d[None]))
    assert (int(best.start[0]), int(best.end[0])) == (a, b)
    assert best.pair[0] == pytest.approx(pairs.max() / np.sqrt(d @ metric @ d))


def test_what_no_word_reaches_counts_in_the_length() -> None:
    rng = np.random.default_rng(3)
    flat = anisotropic(rng)
    values = flat.values.copy()
    values[..., -10:] = values[:1, ..., -10:]  # words do not differ along the last ten axes
    words = replace(flat, values=values)
    z = means(words)
    assert name_direction(given(z[5]), words, RULES).plus[0].cosine == pytest.approx(1.0)
    aside = np.where(np.arange(WIDTH) < WIDTH - 10, 0.0, 100.0)
    found = name_direction(given(z[5] + aside), words, RULES)
    assert found.plus[0].cosine < 0.2
    assert not found.named()


# ---- what is left alone ----


@pytest.mark.parametrize("kind", ["random", "shuffled"])
def test_directions_that_mean_nothing_are_left_unnamed(words: Latents, kind: str) -> None:
    rng = np.random.default_rng(4)
    if kind == "random":
        nothing = [given(rng.normal(size=N_WORDS) @ means(words)) for _ in range(100)]
    else:
        first, second = rng.integers(N_WORDS, size=(2, 100, N_SEEDS))
        held, seeds = words.values[:, :, 0], np.arange(N_SEEDS)
        by_seed = [held[a, seeds] - held[b, seeds] for a, b in zip(first, second)]
        of = Provenance("d", "shuffled", "text", 0, words.seeds)
        nothing = [Direction(d.mean(0), of, d) for d in by_seed]
    assert sum(n.named() for n in namings(nothing, words, RULES, top=1)) <= MOST


def test_a_few_words_thrown_together_are_no_name() -> None:
    """Of words that have nothing in common each that takes part is nearer than to any random direction."""
    rng = np.random.default_rng(8)
    places, seeds = rng.normal(size=(200, 400)), np.arange(4)
    prompts = tuple(Prompt(f"w{i}", f"w{i}", "{}", role="word") for i in range(200))
    values = places[:, None] + 0.1 * rng.normal(size=(200, 4, 400))
    latents = Latents(values[:, :, None], prompts, (0, 1, 2, 3), (0,), "text")
    first, second = rng.integers(200, size=(2, 100, 4))
    by_seed = [values[a, seeds] - values[b, seeds] for a, b in zip(first, second)]
    of = Provenance("d", "shuffled", "text", 0, (4, 5, 6, 7))
    nothing = [Direction(d.mean(0), of, d) for d in by_seed]
    assert sum(n.named() for n in namings(nothing, latents, RULES, top=1)) <= MOST


def test_a_direction_does_not_find_its_own_noise() -> None:
    """The mean of one word's noise is nothing; applied to the same seeds as it is, it looks like that word."""
    latents, noiseless = (anisotropic(np.random.default_rng(5), noise=n) for n in (6.0, 0.0))
    of, cosines = Provenance("noise", "noise", "text", 0, latents.seeds), []
    for i in range(40):
        own = latents.values[i, :, 0] - noiseless.values[i, :, 0]
        both = Direction(own.mean(0), of, own), given(own.mean(0))
        found = namings(both, latents, Rules(resamples=100), top=N_WORDS)
        cosines.append([next(at.cosine for at in n.plus if at.word == f"w{i}") for n in found])
    honest, naive = np.mean(cosines, axis=0)
    assert naive > 0.3
    assert abs(honest) < 0.12


def test_intervals_hold_the_cosine_of_endless_seeds() -> None:
    """95 % intervals of a word's cosine, over 60 vocabularies of the same words: at least 50 hold (P < 0.001 less)."""
    held = 0
    truth = anisotropic(np.random.default_rng(6), noise=0.0)
    d = given(means(truth)[4] + means(truth)[5])
    expected = name_direction(d, truth, RULES, top=1).plus[0]
    for i in range(60):
        noise = np.random.default_rng(100 + i).normal(size=truth.values.shape)
        found = name_direction(d, replace(truth, values=truth.values + 0.3 * noise), Rules(resamples=200), top=N_WORDS)
        at = next(at for at in found.plus if at.word == expected.word)
        held += at.low <= expected.cosine <= at.high
    assert held >= 50


# ---- bad input ----


def cut(latents: Latents, n: int) -> Latents:
    return replace(latents, values=latents.values[:n], prompts=latents.prompts[:n])


def test_what_cannot_be_named_says_why(words: Latents) -> None:
    d = given(np.ones(WIDTH))
    with pytest.raises(ScalexError, match=r"^a vocabulary of 1 word names nothing. Add `words` to the spec"):
        name_direction(d, cut(words, 1), RULES)
    same = replace(words, values=np.ones_like(words.values))
    with pytest.raises(ScalexError, match=r"^all words of the vocabulary give the same latents"):
        name_direction(d, same, RULES)
    with pytest.raises(ScalexError, match=r"^direction 'd' has width 3, but the words 40"):
        name_direction(given(np.ones(3)), words, RULES)
    with pytest.raises(ScalexError, match="2 seeds cannot carry an interval"):
        name_direction(d, replace(words, values=words.values[:, :2], seeds=words.seeds[:2]), RULES)
    still = name_direction(given(np.zeros(WIDTH)), words, RULES)
    assert (still.reason, still.plus, still.named(), still.words) == ("the direction has no length", (), False, "")


def test_few_words_are_named_with_care(words: Latents) -> None:
    """Among three words every direction is near to one: one that half leads to another is no word's."""
    few = cut(words, 3)
    z = means(few)
    assert not name_direction(given(z[0] - 0.5 * z[1]), few, RULES).named()


# ---- in an audit and its report ----


def frame(found: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame(found)


def explored(null: bool = False) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    case = planted(np.random.default_rng(0))
    outcome = analyses.explore(["naming"], case.null if null else case.latents, case.attributes, RULES)
    return frame(outcome.findings), dict(outcome.tables)


def test_findings_hold_the_best_word_at_each_pole_and_the_best_pair() -> None:
    rows, tables = explored()
    assert list(rows["attribute"][:3]) == [*POLES, PAIR]
    assert list(rows["value"][:2]) == ["dress", "beard"]
    assert rows["value"][2] == "beard → dress"
    assert set(rows["target"]) == {"gender: man to woman"}
    assert set(rows["verdict"]) == {NAMED}
    assert re.match(r"q 0.00\d+; the nearest of 63 words; a name must reach about 0.\d\d; this", rows["reason"][0])
    table = tables["naming-text-words"]
    assert list(table["word"][table["rank"] == 1]) == ["dress", "beard"]
    assert len(table) == 20


def test_an_audit_without_attributes_names_nothing() -> None:
    case = planted(np.random.default_rng(0))
    assert analyses.explore(["naming"], case.latents, {}, RULES) == ([], {})


def test_the_report_says_it_in_plain_words() -> None:
    rows, tables = explored()
    [(name, panel)] = parts.panels(rows, tables, {})
    assert name == "naming"
    assert panel.heading == "“gender: man to woman” is “dress”"
    assert "What the picture shows: the direction “gender: man to woman” is “dress”." in panel.paragraphs
    assert len(panel.figures) == len(panel.listings) == 2
    assert "beard" in panel.figures[0].wide
    assert panel.listings[0].rows[0][0] == "dress"
    assert panel.listings[0].rows[-1][0] == "beard → dress"
    rows, tables = explored(null=True)
    [(_, panel)] = parts.panels(rows, tables, {})
    assert panel.heading == "No direction can be named: no word of the vocabulary fits beyond chance"
    assert re.search("no word of the vocabulary fits “gender: man to woman”. The nearest, “", panel.paragraphs[0])


# ---- the command ----


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[..., Path]) -> Path:
    from scalex.auditing import analyze

    said = ["woman", "man", "light skin", "dark skin", "photo", "picture"]
    asked: dict[str, Any] = {"concepts": ["farmer", "pilot"], "attributes": ["gender"], "words": said, "seeds": 4}
    job = prepare(tiny_folder(), asked | {"analyses": ["naming"], "steps": 2, "resamples": 200}, device="cpu")
    folder, _ = capture_run(job, tmp_path_factory.mktemp("run"))
    analyze(folder)
    return folder


def said(*args: object) -> str:
    result = CliRunner().invoke(app, [*map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_command_names_the_attributes_of_a_run_and_files(run: Path, tmp_path: Path) -> None:
    told = json.loads(said("name", run, "--json", "--top", 2))
    assert [(n["direction"]["name"], n["direction"]["reading"]) for n in told] == [
        ("gender: man to woman", "text"),
        ("gender: man to woman", "picture"),
    ]
    assert [len(n["plus"]) for n in told] == [2, 2]
    assert told[0]["n_words"] == 8
    file = tmp_path / "gender.safetensors"
    lines = said("name", run, "--attribute", "gender", "--reading", "picture", "--save", file, "--top", 2).splitlines()
    assert lines[0] == f"gender: man to woman (picture reading): {UNFIT}"
    assert [line[:3] for line in lines[1:6]] == ["  +", "  +", "  -", "  -", "  →"]
    assert re.match(r"    of 8 words; a name must reach \d.\d\d \(a word\) or \d.\d\d \(a pair\)", lines[6])
    assert load_direction(file).n_seeds == 4
    [again] = json.loads(said("name", run, "--direction", file, "--json", "--top", 2))
    for then, now in zip(told[1]["plus"], again["plus"], strict=True):  # a file holds float32
        assert (now["word"], now["cosine"]) == (then["word"], pytest.approx(then["cosine"], abs=1e-4))
    own = json.loads(said("name", run, "--concept", "dark skin", "--reading", "text", "--json"))
    assert own[0]["plus"][0]["word"] == "dark skin"


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"attribute": "gender", "concept": "pilot"},
        "a direction comes from a file, an attribute or a concept. Name",
    ),
    ({"attribute": "gendre"}, "this run has no attribute 'gendre'. Did you mean 'gender'?"),
    ({"concept": "pilt"}, "this run has no concept 'pilt'. Did you mean 'pilot'?"),
    ({"direction": "gone"}, "direction file gone does not exist. Check the path"),
    ({"reading": "smell"}, "this run has no smell reading. Readings: text, picture"),
    ({"save": "x"}, "2 directions would be saved. Name one with --attribute or --concept, and one --reading"),
]


@pytest.mark.parametrize(("asked", "expected"), WRONG)
def test_a_mistake_is_one_line(run: Path, asked: dict[str, Any], expected: str) -> None:
    result = CliRunner().invoke(app, ["name", str(run), *(part for k, v in asked.items() for part in (f"--{k}", v))])
    assert isinstance(result.exception, ScalexError)
    assert str(result.exception).startswith(expected)


def test_a_direction_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "d.safetensors"
    [naming] = name_run(run, attribute="gender", reading="text", save=file)
    from scalex.direction_files import save_direction

    other = replace(naming.direction, of=replace(naming.direction.of, model="0" * 64))
    save_direction(other, file)
    with pytest.raises(ScalexError, match=r"has another model \(000000000000\) than the latents"):
        name_run(run, direction=file)


# ---- the score ----


def bench(rng: np.random.Generator, shuffle: bool = False) -> _Bench:
    """A vocabulary of things and two pulls, in two templates; with `shuffle` a template calls things by other names."""
    held = anisotropic(rng, noise=0.2, seeds=16)
    names = [f"w{i}" for i in range(N_WORDS - 2)] + ["Monday", "idea"]
    values = np.repeat(held.values, 2, axis=0)
    values[2 * (N_WORDS - 2) :] = values[:4]  # Monday is w0, idea is w1
    if shuffle:
        values[1::2] = np.roll(values[1::2], 5, axis=0)
    prompts = tuple(Prompt(f"{t} {n}", n, t) for n in names for t in ("a {}", "the {}"))
    people = planted_people(rng)
    latents = Latents(values, prompts, held.seeds, (0,), "text")
    return _Bench.of(
        latents, people, names[:-2], {"Monday": Pull(picture="w0", share=0.6), "idea": Pull(picture="w1", share=0.6)}
    )


def planted_people(rng: np.random.Generator) -> Latents:
    axes = {"gender": rng.normal(size=WIDTH), "tone": rng.normal(size=WIDTH)}
    values = {"gender": ("man", "woman"), "tone": ("light", "dark")}
    prompts, places = [], []
    for role in (f"role{i}" for i in range(6)):
        base = rng.normal(size=WIDTH) * np.where(np.arange(WIDTH) < 3, 10.0, 1.0)
        forms = [("", "", 0.0)] + [(a, v, s) for a, vs in values.items() for v, s in zip(vs, (-1.0, 1.0))]
        for attribute, value, sign in forms:
            for t in ("a {}", "the {}"):
                prompts.append(Prompt(f"{t} {value} {role}", role, t, attribute, value))
                places.append(base + (sign * axes[attribute] if attribute else 0))
    noise = 0.2 * rng.normal(size=(len(prompts), 16, WIDTH))
    return Latents((np.array(places)[:, None] + noise)[:, :, None], tuple(prompts), tuple(range(16)), (0,), "text")


def test_the_score_tells_right_names_from_wrong_ones() -> None:
    marks = {
        m.name.removeprefix("naming, text reading: ").split(",")[0]: m
        for m in bench(np.random.default_rng(7)).marks("text")
    }
    assert marks["planted directions named right"].value >= 0.95
    assert marks["pulls named by the picture planted"].value == 1
    assert marks["random directions left unnamed"].value >= 0.93
    assert marks["shuffled directions left unnamed"].value >= 0.93
    assert [m.mark for m in marks.values()] == [0.95, None, None, None, 0.95, 0.95]
    wrong = next(iter(bench(np.random.default_rng(7), shuffle=True).marks("text")))
    assert wrong.value <= 0.05
    assert not wrong.ok


def test_a_naming_without_words_is_no_name() -> None:
    assert not Naming(given(np.ones(3))).named()
