"""Explaining classifiers: wrong hierarchies and classifiers, the search, and a planted shortcut on the organism."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import scalex
from scalex.classifiers import Classifier, classifier, load_classifier
from scalex.cli import app
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.explaining import Effect, Explanation, explain
from scalex.explanations import as_dict, in_rows, picture_of
from scalex.jobs import Job, prepare
from scalex.models import quiet
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import load_truth
from scalex.scenes import Scenes
from scalex.semantics import PLAIN, every, load_hierarchy, said
from scalex.store import Store
from scalex.truth import explaining as planted

WORDS = {"look": {"glasses": "{} with glasses", "hair": {"to": "{} with hair", "finer": {"red": "{} with red hair"}}}}


# ---------------------------------------------------------------------------------------------------- hierarchies
def test_a_hierarchy_is_read_coarse_to_fine(tmp_path: Path) -> None:
    file = tmp_path / "semantics.yaml"
    file.write_text(
        """
        look:
          glasses: "{} with glasses"
          hair: {to: "{} with hair", finer: {red: "{} with red hair"}}
        gender: {preset: gender}
        work: {from: "man {}", to: [judge, "man cook"]}
        """
    )
    found = load_hierarchy(file)
    assert [s.name for s in found] == ["look > glasses", "look > hair", "gender", "work"]
    assert [s.name for s in every(found)][2] == "look > hair > red"
    glasses, _, gender, work = found
    assert glasses.before == (PLAIN,)
    assert said(glasses.after[0], "nurse") == "nurse with glasses"
    assert [said(p, "bossy person") for p in (*gender.before, *gender.after)] == ["bossy man", "bossy woman"]
    assert [said(p, "nurse") for p in (*work.before, *work.after)] == ["man nurse", "judge", "man cook"]
    as_json = tmp_path / "semantics.json"
    as_json.write_text(json.dumps(WORDS))
    assert [s.name for s in load_hierarchy(as_json)] == ["look > glasses", "look > hair"]


MALFORMED: dict[str, tuple[Any, str]] = {
    "empty": ({}, "the hierarchy has {} where names and patterns should be"),
    "number": ({"look": 3}, "the hierarchy, at look, is 3. Write names and patterns, as in"),
    "group": ({"look": {}}, "the hierarchy, at look, has {} where names"),
    "key": ({"look": {"to": "{} x", "form": "{}"}}, "has an unknown key 'form'. Did you mean 'from'?"),
    "half": ({"look": {"from": "{} x"}}, "at look, does not say what it goes to. Add `to`"),
    "same": ({"look": {"to": "{}"}}, "at look, goes from '{}' to the same"),
    "slots": ({"look": "{} and {}"}, "has '{} and {}' for a pattern. Write one text with {} once, or without"),
    "list": ({"look": {"to": []}}, "at look, has an empty list of patterns"),
    "pattern": ({"look": {"to": [4]}}, "at look, has [4] for a pattern"),
    "both": ({"look": {"preset": "age", "to": "{} x"}}, "at look, has a preset and patterns"),
    "preset": ({"look": {"preset": "ages"}}, "there is no attribute preset 'ages'. Did you mean 'age'?"),
    "finer": ({"look": {"to": "{} x", "finer": "{} y"}}, "at look, has '{} y' where names and patterns"),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_a_malformed_hierarchy_is_said_in_one_line(name: str) -> None:
    data, expected = MALFORMED[name]
    with pytest.raises(ScalexError, match=re.escape(expected)):
        load_hierarchy(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", r"hierarchy .*h\.yaml is no mapping of names\. Write names and patterns"),
        ("a: [", r"hierarchy .*h\.yaml: bad YAML in line"),
        ("a: '{} x'\na: '{} y'\n", r"hierarchy .*h\.yaml: key `a` is named twice in line 2"),
        ("a: {1: '{} x'}\n", r"hierarchy .*h\.yaml, at a, has a name that is no text: 1\. Put it in quotes"),
        ("a: {b: 3}\n", r"hierarchy .*h\.yaml, at a > b, is 3"),
        (None, r"the hierarchy .*h\.yaml does not exist"),
    ],
)
def test_a_bad_file_of_a_hierarchy_is_named(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / "h.yaml").write_text(text)
    with pytest.raises(ScalexError, match=expected):
        load_hierarchy(tmp_path / "h.yaml")


# ---------------------------------------------------------------------------------------------------- classifiers
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)


def redness(pictures: np.ndarray) -> np.ndarray:
    """Scores of "red" and "blue": the share of each in all that shines."""
    light = pictures.astype(np.float64).mean((1, 2))[:, [0, 2]] + 1
    return np.asarray(light / light.sum(1, keepdims=True))


def failing(pictures: np.ndarray) -> np.ndarray:
    raise RuntimeError("no\nGPU")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (failing, "classifier 'failing' failed: RuntimeError: no GPU. Try it alone on an array of pictures"),
        (lambda p: np.zeros(5), "gave an array of shape (5,) for 5 pictures. It must give (5, 2)"),
        (lambda p: np.zeros((4, 2)), "gave an array of shape (4, 2) for 5 pictures"),
        (lambda p: np.zeros((5, 3)), "gave an array of shape (5, 3) for 5 pictures. It must give (5, 2)"),
        (lambda p: np.full((5, 2), np.nan), "gave scores that are not finite"),
        (lambda p: [["a", "b"]] * 5, "failed: ValueError: could not convert string to float"),
    ],
)
def test_a_bad_callable_is_said_in_one_line(function: Callable[..., Any], expected: str) -> None:
    with pytest.raises(ScalexError, match=re.escape(expected)):
        classifier(function, ["red", "blue"])(PICTURES)


def test_classes_are_names_or_numbers() -> None:
    named, numbered = classifier(redness, ["red", "blue"]), classifier(redness)
    assert (named.name, named.column("blue", 2), numbered.column(1, 2)) == ("redness", 1, 1)
    with pytest.raises(ScalexError, match=r"classifier 'redness' has no class 'rad'\. Did you mean 'red'\?"):
        named.column("rad", 2)
    with pytest.raises(ScalexError, match=r"has no class '2'\. Classes: 0, 1"):
        numbered.column(2, 2)
    with pytest.raises(ScalexError, match=r"a int is no classifier\. Give a function of pictures, or the folder"):
        classifier(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network with random weights, saved as people save theirs."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    names = {0: "indoor", 1: "outdoor", 2: "neither"}
    out = tmp_path_factory.mktemp("network") / "rooms"
    shape: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        network = ResNetForImageClassification(ResNetConfig(id2label=names, **shape))
        network.save_pretrained(out)
        ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(out)
    return out


def test_a_folder_of_transformers_gives_probabilities(folder: Path) -> None:
    found = load_classifier(folder, "cpu")
    assert (found.name, found.classes, found.unit) == ("rooms", ("indoor", "outdoor", "neither"), "probability")
    many = np.concatenate([PICTURES] * 8)  # more than a batch
    scores = found(many)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(scores[:5], scores[-5:], atol=1e-6)
    assert np.ptp(scores[:5], axis=0).max() > 1e-6


def _copy(folder: Path, to: Path, *, without: str = "", **config: Any) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    told = json.loads((to / "config.json").read_text()) if without != "config.json" else {}
    if config:
        (to / "config.json").write_text(json.dumps(told | config))
    return to


def test_a_folder_that_is_no_classifier_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ScalexError, match=r"the folder of a classifier .*file is a file\. Give a local folder"):
        load_classifier(tmp_path / "file")
    with pytest.raises(ScalexError, match=r"the folder of a classifier .*none does not exist\. Give a local folder"):
        load_classifier(tmp_path / "none")
    with pytest.raises(ScalexError, match=r"the folder of a classifier .* has no config\.json"):
        load_classifier(_copy(folder, tmp_path / "a", without="config.json"))
    for lost in ("preprocessor_config.json", "model.safetensors"):
        with pytest.raises(ScalexError, match=r"the classifier in .* cannot be loaded \(.*\)\. It needs config\.json"):
            load_classifier(_copy(folder, tmp_path / lost, without=lost))
    with pytest.raises(ScalexError, match=r"holds a BertModel, which is no classifier"):
        load_classifier(_copy(folder, tmp_path / "b", model_type="bert", architectures=["BertModel"]))
    with pytest.raises(ScalexError, match=r"lacks weights \(resnet"):
        load_classifier(_copy(folder, tmp_path / "c", depths=[2, 1]))


# ---------------------------------------------------------------------------------------------------- the search
TREE = {
    "a": {"to": "woman {}", "finer": {"b": "old woman {}", "c": {"to": "old {}", "finer": {"d": "old man {}"}}}},
    "e": {"to": "man {}", "finer": {"f": "old man {}"}},
    "g": "old {}",
}


@pytest.fixture(scope="module")
def job(tiny_folder: Callable[..., Path]) -> Job:
    asked = {"concepts": ["nurse", "cook"], "attributes": {}, "templates": ["a {}"], "steps": 2}
    return prepare(tiny_folder(scheduler="lcm"), {**asked, "seeds": 4, "guidance": 1.0, "resamples": 200})


def searched(job: Job, tmp_path: Path, score: Callable[..., Any] = redness, **how: Any) -> Explanation:
    scene = {key: how.pop(key) for key in ("alpha", "edit") if key in how}
    semantics = load_hierarchy(TREE)
    scenes = Scenes(job, ["nurse", "cook"], semantics, Store.open(tmp_path / "store"), **scene)
    return explain(classifier(score, ["red", "blue"]), "red", semantics, scenes, **{"seeds": 6, **how})


def test_the_search_opens_the_strongest_and_says_what_it_left_out(job: Job, tmp_path: Path) -> None:
    found = searched(job, tmp_path, beam=1)
    by_name = {t.semantic.name: t for t in found.tested}
    first = max(("a", "e"), key=lambda name: abs(by_name[name].effect))
    other = "e" if first == "a" else "a"
    assert by_name[first].opened is True
    assert by_name[other].opened is False
    assert by_name["g"].opened is None
    left = {"a": {"a > b", "a > c", "a > c > d"}, "e": {"e > f"}}
    assert {(p.semantic.name, p.below.name) for p in found.pruned} == {(name, other) for name in left[other]}
    assert set(by_name) == {"a", "e", "g"} | left[first]
    assert {t.level for t in found.tested if t.semantic.name in ("a", "e", "g")} == {0}
    everything = searched(job, tmp_path, beam=3)
    assert len(everything.tested) == 7
    assert not everything.pruned


def test_figures_are_those_of_the_pictures(job: Job, tmp_path: Path) -> None:
    """The effect, from pictures that are drawn here and not by the search."""
    found = searched(job, tmp_path, alpha=3.0)
    [tested] = [t for t in found.tested if t.semantic.name == "g"]
    semantics = load_hierarchy(TREE)
    scenes = Scenes(job, ["nurse", "cook"], semantics, Store.open(tmp_path / "store"), alpha=3.0)
    seeds = range(4, 10)  # the directions have 0 to 3
    plain, with_it = scenes.without(seeds), scenes.having(semantics[2], seeds)
    change = (redness(with_it) - redness(plain))[:, 0].reshape(2, 6)
    assert tested.effect == pytest.approx(change.mean(), abs=1e-12)
    assert tested.by_concept == pytest.approx({"nurse": change[0].mean(), "cook": change[1].mean()})
    assert tested.low < tested.effect < tested.high
    assert tested.changed > 0
    assert not np.array_equal(plain, with_it)
    assert scenes.directions(semantics[2])["cook"].of.model == job.model.fingerprint
    assert all(math.isnan(t.worded) and t.confirmed is None for t in found.tested if t.p > 0.05)


def test_nothing_is_concluded_where_nothing_is_pushed(job: Job, tmp_path: Path) -> None:
    found = searched(job, tmp_path, alpha=0.0)
    assert {(t.effect, t.p, t.changed, t.verdict) for t in found.tested} == {(0.0, 1.0, 0.0, "not seen to move it")}
    assert all(math.isnan(t.low) for t in found.tested)
    assert in_rows(found)[1][3] == "all seeds alike"
    assert as_dict(found)["tested"][0]["low"] is None


def test_an_interrupted_search_goes_on_and_a_done_one_draws_nothing(
    tiny_folder: Callable[..., Path], tmp_path: Path, forwards: list[int]
) -> None:
    """Ctrl-C while a classifier is asked; resumed, against the same without a break."""
    keys = {"attributes": {}, "templates": ["a {}"], "steps": 2, "guidance": 1.0, "resamples": 200, "vectors": 4}
    asked = (TREE, ["nurse", "cook"])
    how: dict[str, Any] = {**keys, "model": tiny_folder(scheduler="lcm"), "classes": ["red", "blue"], "seeds": 6}
    whole = scalex.explain_classifier(redness, "red", *asked, **how, out=tmp_path / "whole")
    uninterrupted, _ = sum(forwards), forwards.clear()
    calls = 0

    def breaking(pictures: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return redness(pictures)

    with pytest.raises(ScalexError, match=r"interrupted: what was captured and drawn is kept in .*broken"):
        scalex.explain_classifier(breaking, "red", *asked, **how, out=tmp_path / "broken")
    before, _ = sum(forwards), forwards.clear()
    resumed = scalex.explain_classifier(redness, "red", *asked, **how, out=tmp_path / "broken")
    assert 0 < before < uninterrupted == before + sum(forwards)
    assert as_dict(resumed) == as_dict(whole)
    forwards.clear()
    again = scalex.explain_classifier(redness, "red", *asked, **how, out=tmp_path / "broken")
    assert as_dict(again) == as_dict(whole)
    assert forwards == []


def test_words_take_the_place_of_steering(job: Job, tmp_path: Path) -> None:
    found = searched(job, tmp_path, edit="words")
    assert all(t.changed > 0 and math.isnan(t.shuffled) for t in found.tested)
    assert not (tmp_path / "store").is_dir() or not Store.open(tmp_path / "store").recipes()


def test_what_cannot_be_searched_is_said_before_anything_is_captured(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"5 seeds carry no test\. Use at least 6"):
        searched(job, tmp_path, seeds=5)
    with pytest.raises(ScalexError, match="classifier 'failing' failed"):
        searched(job, tmp_path, failing)
    assert not Store.open(tmp_path / "store").recipes()
    with pytest.raises(ScalexError, match=r"template 'a \{\}' with 'the nurse' has two articles"):
        Scenes(job, ["nurse"], load_hierarchy({"x": "the {}"}), Store.open(tmp_path / "store"))


@pytest.mark.parametrize(
    ("effect", "worded", "agreed"), [(0.9, 0.4, 0.4), (-0.2, -0.5, 0.2), (0.9, -0.1, 0.0), (-0.3, math.nan, 0.3)]
)
def test_a_ranking_trusts_what_steering_and_words_both_do(effect: float, worded: float, agreed: float) -> None:
    [semantic] = load_hierarchy({"x": "old {}"})
    rest = {"low": effect, "high": effect, "p": 0.01, "q": 0.01, "flipped": 0.0, "changed": 0.1, "by_concept": {}}
    tested = Effect(semantic, 0, 0.0, effect, effect, worded=worded, **rest)
    assert tested.agreed == agreed
    assert replace(tested, verdict="raises it").moves
    assert not replace(tested, verdict="raises it, words do not").moves


def test_what_words_contradict_is_said_and_ranks_below(job: Job, tmp_path: Path) -> None:
    """A classifier that knows the steered pictures, and nothing that words can draw."""
    semantics = load_hierarchy({"x": "old {}"})
    scenes = Scenes(
        job, ["nurse", "cook"], semantics, Store.open(tmp_path / "store"), alpha=3.0, drawings=Drawings.open(tmp_path)
    )
    steered = scenes.having(semantics[0], range(4, 10))

    def same(pictures: np.ndarray) -> np.ndarray:
        alike = np.array([any(np.array_equal(one, other) for other in steered) for one in pictures])
        return np.stack([alike, ~alike], axis=1).astype(np.float64)

    [found] = explain(classifier(same), 0, semantics, scenes, seeds=6).tested
    assert (found.effect, found.worded, found.confirmed) == (1.0, 0.0, False)
    assert found.verdict == "raises it, words do not"
    assert not found.moves


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -101.0])
def test_an_absurd_alpha_is_refused_before_anything_is_captured(job: Job, tmp_path: Path, alpha: float) -> None:
    with pytest.raises(ScalexError, match=r"alpha is .*\. It counts in the distance between the prompts: within 100"):
        searched(job, tmp_path, alpha=alpha)


def test_effects_within_the_margin_hardly_move_it(job: Job, tmp_path: Path) -> None:
    found = searched(job, tmp_path, alpha=3.0, margin=2.0)
    assert {t.verdict for t in found.tested} == {"hardly moves it"}


# ---------------------------------------------------------------------------------------------------- the command
def test_the_command_leaves_table_and_pictures(folder: Path, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text(json.dumps(TREE))
    words = ["explain", str(folder), "--class", "indoor", "--concepts", "nurse, cook", "--seeds", "6", "--vectors", "4"]
    words += ["--hierarchy", str(tmp_path / "h.yaml"), "--out", str(tmp_path / "out"), "--beam", "1", "--steps", "2"]
    words += ["--model", str(tiny_folder(scheduler="lcm"))]
    (tmp_path / "spec.yaml").write_text('concepts: [nurse]\nattributes: {}\ntemplates: ["a {}"]\nguidance: 1.0\n')
    words += ["--spec", str(tmp_path / "spec.yaml")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert re.search(r"semantic +effect +95 % +q +in words +shuffled +flipped", lines[0])
    assert any(line.startswith("Not tested: ") for line in lines)
    told = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert (told["class"], told["unit"], told["concepts"]) == ("indoor", "probability", ["nurse", "cook"])
    assert told["tested"][0]["semantic"] in lines[1]
    with Image.open(tmp_path / "out" / "explanation.png") as picture:
        assert picture.size[0] > 600


def test_the_command_says_a_wrong_class_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text(json.dumps(TREE))
    words = ["explain", str(folder), "--class", "indor", "--concepts", "nurse", "--hierarchy", str(tmp_path / "h.yaml")]
    shown = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(shown.exception, ScalexError)
    assert str(shown.exception) == "classifier 'rooms' has no class 'indor'. Did you mean 'indoor'?"
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------- the truth
def test_a_planted_shortcut_ranks_first_and_only_where_it_was_planted(tmp_path: Path) -> None:
    """Networks that tell indoor jobs from outdoor ones; one saw only women indoors and only men outdoors."""
    job = prepare(concepts=["pilot", "farmer"], attributes={}, seeds=8)
    truth = load_truth(EMBEDDED)
    work = planted.HIERARCHY["work"]["indoor"]["finer"]
    semantics = load_hierarchy({"person": planted.HIERARCHY["person"], "work": {"judge": work["judge"]}})
    scenes = Scenes(
        job, ["pilot", "farmer"], semantics, Store.open(tmp_path / "store"), drawings=Drawings.open(tmp_path)
    )
    first = {}
    for shortcut, make in ((True, planted.confounded_pictures), (False, planted.honest_pictures)):
        network = planted.train(*make(truth, job))
        asked = Classifier("network", network, planted.CLASSES, "probability")
        found = explain(asked, "indoor", semantics, scenes, seeds=8, controls=1)
        first[shortcut] = found.tested[0]
        assert picture_of(found).size[1] > 300
    assert first[True].semantic.name == "person > gender"
    assert first[True].verdict == "raises it"
    assert first[True].effect > 0.3
    assert first[True].confirmed is True
    assert first[True].worded > 0.3
    assert abs(first[True].shuffled) < 0.1
    assert first[False].semantic.name == "work > judge"


def test_the_verb_is_scalexs_own() -> None:
    with pytest.raises(ScalexError, match=r"has no class 'rad'\. Did you mean 'red'\?"):
        scalex.explain_classifier(redness, "rad", WORDS, ["nurse"], classes=["red", "blue"])
