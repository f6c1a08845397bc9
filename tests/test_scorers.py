"""Scorers: each kind on real parts, what they give checked, and shares corrected by what is known of a scorer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    pipeline,
)

from scalex.analyses._planted import planted
from scalex.capture import Plan, picture_size
from scalex.errors import ScalexError
from scalex.misclassification import Calibration, Estimate, Known, _ratio, calibrate, corrected
from scalex.models import Model
from scalex.records import Latents, Rules
from scalex.scorers import AttributeScorer, readouts_of, scored
from scalex.scorers._calling import Remembered, called
from scalex.scorers.function import Function, named_function
from scalex.scorers.image_classification import image_classification
from scalex.scorers.picture_reading import PictureReader, picture_readouts
from scalex.scorers.zero_shot import zero_shot, zero_shot_readouts
from scalex.validation._effects import effect
from tiny import tiny_tokenizer

GENDER = ("man", "woman")


def pictures(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------------- what they give


@dataclass(frozen=True)
class Fixed:
    """Gives what it was made with."""

    given: Any
    values: tuple[str, ...] = GENDER
    attribute: str = "gender"
    name: str = "fixed"

    def score(self, pictures: np.ndarray) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (np.zeros((2, 3)), r"scorer 'fixed' gave an array of shape \(2, 3\) for 2 pictures and 2 values"),
        (np.zeros(2), r"gave an array of shape \(2,\)"),
        ([[0.5, 1.5], [0, 0]], "gave numbers that are no shares"),
        ([[0.5, np.nan], [0, 0]], "gave numbers that are no shares"),
        (RuntimeError("no pictures today"), "scorer 'fixed' failed: RuntimeError: no pictures today"),
    ],
)
def test_what_is_no_share_is_refused(given: Any, wrong: str) -> None:
    with pytest.raises(ScalexError, match=wrong):
        scored(Fixed(given), pictures(2))


def test_a_row_of_nan_says_that_nothing_was_recognised() -> None:
    found = scored(Fixed([[np.nan, np.nan], [0.2, 0.8]]), pictures(2))
    assert called(found).tolist() == [-1, 1]


def test_scorers_are_found_by_attribute_and_values() -> None:
    readouts = readouts_of([Fixed([[0, 1]])])
    assert readouts("nurse", "gender", GENDER) is not None
    assert readouts("nurse", "gender", ("woman", "man")) is None
    assert readouts("nurse", "tone", GENDER) is None


def test_the_last_pictures_are_read_once() -> None:
    read: list[int] = []
    memory = Remembered(lambda p: read.append(len(p)) or len(p))  # type: ignore[func-returns-value]
    one, other = pictures(2), pictures(2, seed=1)
    assert [memory.read(p) for p in (one, one.copy(), other, one)] == [2] * 4
    assert read == [2, 2, 2]


# ---------------------------------------------------------------------------------------------------- functions


def test_a_function_may_give_the_second_share_alone() -> None:
    bright = Function(lambda p: p.mean((1, 2, 3)) / 255, "light", ("dark", "bright"))
    shown = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    assert scored(bright, shown).tolist() == [[1, 0], [0, 1]]
    assert isinstance(bright, AttributeScorer)


@pytest.mark.parametrize("name", ["no.such.module:f", "numpy:nothing", "numpy", "numpy:pi", ":"])
def test_what_names_no_function_is_refused(name: str) -> None:
    with pytest.raises(ScalexError, match=r"package\.module:function"):
        named_function(name)
    assert named_function("numpy:mean") is np.mean


# ---------------------------------------------------------------------------------------------------- CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights."""
    folder, tokenizer = tmp_path_factory.mktemp("clip"), tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id, **ids, **sizes,
    )  # fmt: skip
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **sizes)
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_clip_is_asked_as_it_answers_by_itself(clip: Path) -> None:
    scorer = zero_shot(clip, "gender", {"man": "a photo of a man", "woman": ["a photo of a woman"]})
    shown = pictures(3)
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), tiny_tokenizer()
    words = tokenizer(["a photo of a man", "a photo of a woman"], padding=True, return_tensors="pt")
    seen = CLIPImageProcessorPil.from_pretrained(clip)(images=list(shown), return_tensors="pt")
    with torch.no_grad():
        logits = model(**words, pixel_values=seen["pixel_values"]).logits_per_image
    expected = logits.softmax(1).numpy()
    assert scored(scorer, shown) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-4  # pictures differ, so that the order of rows matters
    assert scorer.name == f"zero-shot {clip.name}"


@pytest.fixture(scope="module", params=["siglip", "siglip2"])
def siglip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SigLIP with random weights, of pictures of one size or of any; its temperature is 20, its bias -3."""
    folder, tokenizer = tmp_path_factory.mktemp(request.param), tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length, **ids, **sizes}
    torch.manual_seed(0)
    model: Any
    if request.param == "siglip":
        vision = {"image_size": 32, "patch_size": 8, **sizes}
        model = SiglipModel(SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=vision))
        SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    else:
        vision = {"num_patches": 16, "patch_size": 8, **sizes}
        model = Siglip2Model(Siglip2Config(text_config=text | {"projection_size": 32}, vision_config=vision))
        Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(20))
        model.logit_bias.fill_(-3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_siglip_gives_each_value_its_share_of_the_odds(siglip: Path) -> None:
    said, shown = {"man": "a photo of a man", "woman": "a woman"}, pictures(3)
    scorer = zero_shot(siglip, "gender", said)
    model, tokenizer = AutoModel.from_pretrained(siglip).eval(), AutoTokenizer.from_pretrained(siglip)
    processor, length = AutoImageProcessor.from_pretrained(siglip, backend="pil"), tiny_tokenizer().model_max_length
    padded: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": length}
    words = tokenizer(list(said.values()), return_tensors="pt", **padded)
    seen = processor(images=list(shown), return_tensors="pt")
    with torch.no_grad():
        probabilities = model(input_ids=words["input_ids"], **seen).logits_per_image.sigmoid().double().numpy()
        masked = model(**words, **seen).logits_per_image.sigmoid().double().numpy()
    odds = probabilities / (1 - probabilities)
    assert scored(scorer, shown) == pytest.approx(odds / odds.sum(1, keepdims=True), abs=1e-5)
    assert np.ptp(odds[:, 0] / odds[:, 1]) > 1e-2  # pictures differ
    assert np.abs(masked - probabilities).max() > 1e-4  # so would a mask, which it was trained without


def test_a_folder_without_a_tokenizer_is_named(clip: Path, tmp_path: Path) -> None:
    for file in clip.iterdir():
        if not file.name.startswith(("tokenizer", "vocab", "merges", "special")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    texts = {"man": "a man", "woman": "a woman"}
    with pytest.raises(ScalexError, match=r"has no tokenizer: none of tokenizer\.json"):
        zero_shot(tmp_path, "gender", texts)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ScalexError, match=r"the tokenizer in .* cannot be loaded .*Save it again beside the model"):
        zero_shot(tmp_path, "gender", texts)


def test_several_texts_of_a_value_are_averaged(clip: Path) -> None:
    texts = {"man": ["a man", "a photo of a man"], "woman": ["a woman", "a photo of a woman"]}
    both, one = (zero_shot(clip, "gender", t) for t in (texts, {v: t[:1] for v, t in texts.items()}))
    assert np.linalg.norm(both.texts, axis=1) == pytest.approx([1, 1])
    assert not np.allclose(both.texts, one.texts)
    assert scored(both, pictures(2)).sum(1) == pytest.approx([1, 1])


def test_clip_serves_every_concept_and_tells_concepts_apart(clip: Path) -> None:
    def prompts(concept: str, attribute: str) -> dict[str, list[str]]:
        names = ("pilot", "nurse") if attribute == "concept" else GENDER
        return {n: [f"a {n}" if attribute == "concept" else f"a {n} {concept}"] for n in names}

    readouts = zero_shot_readouts(clip, prompts)
    pilot, nurse = (readouts(c, "concept", (c,)) for c in ("pilot", "nurse"))
    assert pilot is not None
    assert nurse is not None
    shown = pictures(3)
    assert (scored(pilot, shown) + scored(nurse, shown))[:, 0] == pytest.approx([1, 1, 1])
    one, other = (readouts(c, "gender", GENDER) for c in ("pilot", "nurse"))
    assert one is not None
    assert other is not None
    assert not np.allclose(scored(one, shown), scored(other, shown))
    assert readouts("pilot", "gender", ("man", "robot")) is None


def test_a_folder_that_holds_no_clip_is_named(clip: Path, classifier: Path, tmp_path: Path) -> None:
    texts = {"man": "a man", "woman": "a woman"}
    with pytest.raises(ScalexError, match=r"has no config\.json"):
        zero_shot(tmp_path, "gender", texts)
    tiny_tokenizer().save_pretrained(classifier)
    with pytest.raises(ScalexError, match="is no model of pictures and texts"):
        zero_shot(classifier, "gender", texts)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ScalexError, match="cannot be loaded"):
        zero_shot(tmp_path, "gender", texts)
    with pytest.raises(ScalexError, match="needs texts for two values"):
        zero_shot(clip, "gender", {"man": "a man", "woman": []})


# ---------------------------------------------------------------------------------------------------- classifiers


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer with random weights and four labels."""
    folder = tmp_path_factory.mktemp("classifier")
    labels = dict(enumerate(("boy", "Man", "Woman", "cat")))
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    config = ViTConfig(
        image_size=32, patch_size=8, id2label=labels, label2id={v: k for k, v in labels.items()}, **sizes
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_labels_stand_for_values(classifier: Path) -> None:
    shown = pictures(3)
    model = ViTForImageClassification.from_pretrained(classifier).eval()
    seen = ViTImageProcessorPil.from_pretrained(classifier)(images=list(shown), return_tensors="pt")
    with torch.no_grad():
        shares = model(**seen).logits.softmax(1).numpy()
    named = scored(image_classification(classifier, "gender", GENDER), shown)
    assert named == pytest.approx(shares[:, 1:3], abs=1e-5)
    mapped = image_classification(classifier, "gender", GENDER, {"boy": "man", "Man": "man", "Woman": "woman"})
    expected = np.stack([shares[:, 0] + shares[:, 1], shares[:, 2]], axis=1)
    assert scored(mapped, shown) == pytest.approx(expected, abs=1e-5)


def test_a_pipeline_serves_too(classifier: Path) -> None:
    model, processor = (
        ViTForImageClassification.from_pretrained(classifier),
        ViTImageProcessorPil.from_pretrained(classifier),
    )
    made = pipeline("image-classification", model=model, image_processor=processor)
    one, other = (image_classification(source, "gender", GENDER) for source in (classifier, made))
    shown = pictures(2)
    assert scored(one, shown) == pytest.approx(scored(other, shown))
    said = {row["label"]: row["score"] for row in made(Image.fromarray(shown[0]), top_k=4)}
    assert scored(one, shown)[0] == pytest.approx([said["Man"], said["Woman"]], abs=1e-5)


def test_labels_that_are_not_there_are_named(classifier: Path) -> None:
    with pytest.raises(ScalexError, match="no label of the classifier stands for 'robot'"):
        image_classification(classifier, "gender", ("man", "robot"))
    with pytest.raises(ScalexError, match="the classifier has no label 'dog'"):
        image_classification(classifier, "gender", GENDER, {"dog": "man"})
    with pytest.raises(ScalexError, match="is no image classifier"):
        image_classification(object(), "gender", GENDER)


# ---------------------------------------------------------------------------------------------------- correction


def biased(rng: np.random.Generator, truth: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """What a scorer calls pictures that show these values, as ones and zeros."""
    said = np.array([rng.choice(len(confusion), p=confusion[:, v]) for v in truth])
    return np.asarray(said[:, None] == np.arange(len(confusion)), dtype=np.float64)


def calibrated(rng: np.random.Generator, confusion: np.ndarray, n: int) -> Calibration:
    counts = np.stack([rng.multinomial(n, column) for column in confusion.T], axis=1)
    return Calibration(tuple("abc"[: len(confusion)]), counts, np.zeros(len(confusion), np.int64))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_corrected_shares_are_right_and_their_intervals_cover(share: float) -> None:
    rng, confusion = np.random.default_rng(int(100 * share)), np.array([[0.85, 0.25], [0.15, 0.75]])
    estimates, covers, n = [], 0, 400
    for _ in range(n):
        truth = (rng.random(80) < share).astype(int)
        found = corrected(biased(rng, truth, confusion), calibrated(rng, confusion, 60))
        estimates.append(found.estimate[1])
        covers += found.low[1] <= share <= found.high[1]
    assert covers / n >= 0.93  # 0.95 is promised; the binomial of 400 stays above with probability 0.96
    if 0.1 < share < 0.8:  # nearer to an end, estimates are clipped
        assert np.mean(estimates) == pytest.approx(share, abs=0.02)


def test_many_values_are_corrected_together() -> None:
    rng = np.random.default_rng(0)
    confusion = np.array([[0.8, 0.1, 0.2], [0.1, 0.8, 0.1], [0.1, 0.1, 0.7]])
    truth = rng.choice(3, 4000, p=[0.2, 0.5, 0.3])
    found = corrected(biased(rng, truth, confusion), calibrated(rng, confusion, 2000))
    assert found.estimate == pytest.approx([0.2, 0.5, 0.3], abs=0.04)
    assert (found.low <= [0.2, 0.5, 0.3]).all()
    assert (found.high >= [0.2, 0.5, 0.3]).all()


def test_a_scorer_that_guesses_says_nothing() -> None:
    even = Calibration(("a", "b"), np.array([[20, 20], [20, 20]]), np.zeros(2, np.int64))
    found = corrected(np.tile([1.0, 0.0], (50, 1)), even)
    assert found.low.tolist() == [0, 0]
    assert found.high.tolist() == [1, 1]


def known(first: int, of_first: int, second: int, of_second: int) -> Known:
    """So many pictures of the first value, and of the second, are read as the second."""
    counts = ((first, of_first), (second, of_second))
    return Known(*(np.repeat([1.0, 0.0], [hits, n - hits])[None] for hits, n in counts))


def test_the_gain_is_a_difference_of_proportions() -> None:
    gain = known(48, 80, 56, 70).gain()  # Newcombe 1998, table II, 56/70 - 48/80, method 10
    assert tuple(gain) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_ratio_of_symmetric_estimates_is_fiellers() -> None:
    a, b, sa, sb = 0.3, 0.6, 0.05, 0.08
    square, middle, end = b**2 - sb**2, a * b, a**2 - sa**2  # the roots of square x^2 - 2 middle x + end
    root = np.sqrt(middle**2 - square * end)
    found = _ratio(Estimate(a, a - sa, a + sa), Estimate(b, b - sb, b + sb))
    assert tuple(found) == pytest.approx((0.5, (middle - root) / square, (middle + root) / square))
    turned = _ratio(Estimate(-a, -a - sa, -a + sa), Estimate(b, b - sb, b + sb))
    assert tuple(turned) == pytest.approx((-found.estimate, -found.high, -found.low))


@pytest.mark.parametrize(("false", "hit", "slope"), [(0.1, 0.9, 0.3), (0.25, 0.85, 0.3), (0.1, 0.8, 0.0)])
def test_corrected_slopes_are_right_and_their_intervals_cover(false: float, hit: float, slope: float) -> None:
    rng, alphas, found, covers, n = np.random.default_rng(int(100 * hit)), np.array([-1.0, 0.0, 1.0]), [], 0, 300
    rules = Rules(resamples=300, permutations=19)
    for _ in range(n):
        shows = (rng.random((1, 24)) < (0.5 + slope * alphas)[:, None, None]).astype(int)
        seen = (rng.random(shows.shape) < np.where(shows, hit, false)).astype(float)
        tried = Known(*((rng.random((1, 24)) < share).astype(float) for share in (false, hit)))
        one = tried.slope(Estimate(*effect(tuple(alphas), seen, rules)[:3]))
        covers += not (one.low > slope or one.high < slope)
        found.append(one.estimate)
    assert covers / n >= 0.92  # 0.95 is promised; the binomial of 300 stays above with probability 0.99
    assert np.isnan(found).mean() < 0.05  # too little is known in so few
    assert np.nanmedian(found) == pytest.approx(slope, abs=0.03)


def test_readouts_are_corrected_as_shares_are() -> None:
    counts = np.array([[54, 6], [6, 54]])
    calls = np.repeat([[1.0, 0.0], [0.0, 1.0]], [40, 40], axis=0)
    by_calls = corrected(calls[20:], Calibration(("a", "b"), counts, np.zeros(2, np.int64)))
    share = known(6, 60, 54, 60).share(calls[20:, 1].mean(), 60)
    assert tuple(share) == pytest.approx((by_calls.estimate[1], by_calls.low[1], by_calls.high[1]), abs=1e-6)
    assert share.estimate > 40 / 60


def test_a_readout_that_tells_too_little_corrects_nothing() -> None:
    assert all(map(math.isnan, known(5, 10, 6, 10).slope(Estimate(0.1, 0.05, 0.15))))
    assert math.isnan(known(6, 10, 5, 10).share(0.5, 10).estimate)
    assert all(map(math.isnan, known(1, 20, 19, 20).slope(Estimate(0.1, math.nan, math.nan))))


def test_calibration_counts_what_is_called_and_what_is_lost() -> None:
    def call(p: np.ndarray) -> np.ndarray:
        first = p[:, 0, 0, 0].astype(float)
        shares = np.stack([first == 0, first != 0], axis=1).astype(float)
        shares[first == 9] = np.nan
        return shares

    def row(*numbers: int) -> np.ndarray:
        return np.stack([np.full((2, 2, 3), n, np.uint8) for n in numbers])

    scorer = Function(call, "gender", GENDER)
    found = calibrate(scorer, {"man": row(0, 0, 1, 9), "woman": row(1, 1, 0)})
    assert found.counts.tolist() == [[2, 1], [1, 2]]
    assert found.lost.tolist() == [1, 0]
    assert found.accuracy == pytest.approx((2 / 4 + 2 / 3) / 2)
    with pytest.raises(ScalexError, match="no picture of 'woman' to calibrate"):
        calibrate(scorer, {"man": row(0), "woman": row(9)})
    with pytest.raises(ScalexError, match="there are shares of 3 values"):
        corrected(np.zeros((1, 3)), found)
    with pytest.raises(ScalexError, match="nothing was recognised"):
        corrected(np.full((2, 2), np.nan), found)


# ---------------------------------------------------------------------------------------------------- picture reading


def audited_latents(**shares: dict[str, dict[str, float]]) -> Latents:
    plan = {"pilot": {"gender": {"man": 0.9, "woman": 0.1}}, "nurse": {"gender": {"man": 0.1, "woman": 0.9}}}
    return planted({**plan, **shares}, np.random.default_rng(0), n_seeds=12)


class Latent(PictureReader):
    """A reader whose pictures are latents already."""

    def __init__(self, latents: np.ndarray) -> None:
        self.latents = latents

    def read(self, pictures: np.ndarray) -> np.ndarray:
        return self.latents


def test_pictures_are_told_by_what_the_audit_taught(ddim: Model) -> None:
    latents = audited_latents()
    readouts = picture_readouts(ddim, Plan(steps=2, guidance=1.0), latents, without=latents.seeds[8:])
    scorer = readouts("pilot", "gender", GENDER)
    assert scorer is not None
    unseen = np.concatenate([latents.of("pilot", "gender", v)[0, 8:] for v in GENDER]).astype(np.float64)
    found = scored(replace(scorer, reader=Latent(unseen)), pictures(8))  # type: ignore[type-var]
    assert called(found).tolist() == [0] * 4 + [1] * 4
    concept = readouts("pilot", "concept", ("pilot",))
    assert concept is not None
    both = np.concatenate([latents.of(c)[0, 8:] for c in ("pilot", "nurse")]).astype(np.float64)
    kept = scored(replace(concept, reader=Latent(both)), pictures(8))  # type: ignore[type-var]
    assert kept[:, 0].tolist() == [1] * 4 + [0] * 4


def test_concepts_that_look_alike_count_as_one_another(ddim: Model) -> None:
    latents = audited_latents()
    twin = [replace(p, concept="co-pilot") for p in latents.prompts if p.concept == "pilot"]
    rows = [i for i, p in enumerate(latents.prompts) if p.concept == "pilot"]
    noise = 0.01 * np.random.default_rng(1).normal(size=latents.values[rows].shape)
    values = np.concatenate([latents.values, latents.values[rows] + noise])
    more = replace(latents, values=values, prompts=(*latents.prompts, *twin))
    concept = picture_readouts(ddim, Plan(steps=2, guidance=1.0), more)("pilot", "concept", ("pilot",))
    assert concept is not None
    copies = more.of("co-pilot")[0].astype(np.float64)
    assert scored(replace(concept, reader=Latent(copies)), pictures(12)).min() == 1  # type: ignore[type-var]
    nurses = more.of("nurse")[0].astype(np.float64)
    assert scored(replace(concept, reader=Latent(nurses)), pictures(12)).max() == 0  # type: ignore[type-var]


def test_a_reading_that_cannot_tell_gives_no_scorer(ddim: Model) -> None:
    latents = planted(
        {"pilot": {"gender": {"man": 0.5, "woman": 0.5}}}, np.random.default_rng(0), n_seeds=12, separation=0.0
    )
    readouts = picture_readouts(ddim, Plan(steps=2, guidance=1.0), latents)
    assert readouts("pilot", "gender", GENDER) is None
    assert readouts("pilot", "concept", ("pilot",)) is None


def test_seeds_of_the_pictures_are_not_learned_from(ddim: Model) -> None:
    latents = audited_latents()
    with pytest.raises(ScalexError, match="3 seeds are left to learn from"):
        picture_readouts(ddim, Plan(steps=2, guidance=1.0), latents, without=latents.seeds[3:])
    with pytest.raises(ScalexError, match="picture reading of single seeds"):
        picture_readouts(ddim, Plan(steps=2, guidance=1.0), replace(latents, reading="text"))


def test_pictures_are_read_at_the_models_size(ddim: Model) -> None:
    reader = PictureReader(ddim, Plan(steps=2, guidance=1.0))
    size = picture_size(ddim)[0]
    found = reader.read(pictures(3, size))
    assert found.shape == (3, ddim.probe_shape[0])
    assert np.array_equal(found, PictureReader(ddim, Plan(steps=2, guidance=1.0)).read(pictures(3, size)))
    alone = PictureReader(ddim, Plan(steps=2, guidance=1.0)).read(pictures(3, size)[1:2])
    assert found[1:2] == pytest.approx(alone, abs=1e-5)  # noise is not of the place in a batch
    with pytest.raises(ScalexError, match=f"pictures are {size + 2} x {size + 2}, the model's are {size} x {size}"):
        reader.read(pictures(1, size + 2))
