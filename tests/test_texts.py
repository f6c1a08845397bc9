"""Conditions of texts that an earlier run kept on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scalex import texts
from scalex.capture import Plan, capture
from scalex.models import Model, load_model

SAMPLES = [(f"a photo of a {word}", seed) for word in ("nurse", "pilot", "cat") for seed in (0, 1)]
PLAN = Plan(readings=("text", "picture"), steps=1, guidance=2.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SCALEX_CACHE", str(tmp_path / "cache"))
    texts._room.clear()
    yield tmp_path / "cache"
    texts._room.clear()


def captured(model: Model, plan: Plan = PLAN) -> tuple[int, dict[object, np.ndarray]]:
    """How many texts were encoded, and the latents."""
    found: dict[object, np.ndarray] = {}
    stats = capture(
        model, SAMPLES, plan, lambda reading, batch, values: found.update(zip([(reading, s) for s in batch], values))
    )
    return stats.texts, found


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def test_the_next_run_of_a_model_encodes_nothing(cache: Path, tiny_folder: Callable[..., Path]) -> None:
    first, found = captured(load_model(tiny_folder(), device="cpu"))
    again, same = captured(load_model(tiny_folder(), device="cpu"))
    assert (first, again, len(files(cache))) == (4, 0, 4), "three texts and the empty one"
    for sample, latent in found.items():
        np.testing.assert_array_equal(same[sample], latent)


def test_what_else_determines_a_condition_keeps_its_own(cache: Path, tiny_folder: Callable[..., Path]) -> None:
    captured(load_model(tiny_folder(), device="cpu"))
    assert captured(load_model(tiny_folder(), device="cpu", dtype="bf16"))[0] == 4
    assert captured(load_model(tiny_folder(seed=1), device="cpu"))[0] == 4
    assert captured(load_model(tiny_folder(), device="cpu"), Plan(guidance=2.0, truncate=True))[0] == 4


def test_a_damaged_file_is_made_anew(cache: Path, tiny_folder: Callable[..., Path]) -> None:
    _, found = captured(load_model(tiny_folder(), device="cpu"))
    torn, emptied, *_ = files(cache)
    torn.write_bytes(torn.read_bytes()[:-9])
    emptied.write_bytes(b"")
    again, same = captured(load_model(tiny_folder(), device="cpu"))
    assert (again, captured(load_model(tiny_folder(), device="cpu"))[0]) == (2, 0)
    for sample, latent in found.items():
        np.testing.assert_allclose(same[sample], latent, rtol=1e-5, atol=1e-5)


def test_a_cache_that_refuses_costs_nothing_but_time(
    guarded: Path, monkeypatch: pytest.MonkeyPatch, ddim: Model
) -> None:
    monkeypatch.setenv("SCALEX_CACHE", str(guarded))
    assert captured(ddim)[0] == 4
    assert captured(ddim)[0] == 4


def test_the_oldest_go_where_there_is_no_room(cache: Path, monkeypatch: pytest.MonkeyPatch, ddim: Model) -> None:
    captured(ddim)
    each = files(cache)[0].stat().st_size
    monkeypatch.setattr(texts, "_MOST", 10 * each)
    texts._room.clear()
    for n in range(5):
        other = [(f"a photo of a {'very ' * n}small cat", 0) for _ in range(1)]
        capture(ddim, other, Plan(readings=("text",), truncate=True), lambda *_: None)
    texts._room.clear()
    capture(ddim, [(f"a {word} cat", 0) for word in ("red", "big", "old")], PLAN, lambda *_: None)
    assert sum(file.stat().st_size for file in files(cache)) <= 10 * each


def test_a_run_of_very_many_texts_keeps_none(cache: Path, monkeypatch: pytest.MonkeyPatch, ddim: Model) -> None:
    monkeypatch.setattr(texts, "_MOST", 1000)
    captured(ddim)
    assert files(cache) == []


def test_nothing_is_kept_where_the_cache_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ddim: Model) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    captured(ddim)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("SCALEX_CACHE")
    captured(ddim)
    assert len(files(tmp_path / ".cache" / "scalex")) == 4


def test_a_model_that_was_counted_before_is_counted_without_its_encoder(
    cache: Path, tiny_folder: Callable[..., Path]
) -> None:
    first = load_model(tiny_folder(), device="cpu")
    told = first.flops(), first.weights()
    again = load_model(tiny_folder(), device="cpu")
    encoder = again._parts.networks["text_encoder"]  # type: ignore[attr-defined]
    encoder.register_forward_hook(lambda *_: pytest.fail("the encoder ran"))
    assert (again.flops(), again.weights()) == told
    other = load_model(tiny_folder(), device="cpu", probe="down_blocks.0")
    assert other.flops()["stopped"] < told[0]["stopped"]
    for file in (cache / "costs").iterdir():
        file.write_text("{")
    assert load_model(tiny_folder(), device="cpu").flops() == told[0], "damaged files are replaced"
