"""What the tests of engines share: prompts, seeds, a plan, a damaged model, and an engine as a process of its own."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from scalex.capture import Plan
from scalex.engine import Filled, engine
from scalex.errors import ScalexError
from scalex.models import load_model
from scalex.records import Prompt
from scalex.store import Store

WORDS = ("nurse", "pilot", "farmer", "man")
PROMPTS = tuple(Prompt(f"a photo of a {word}", word, "a photo of a {}") for word in WORDS)
SEEDS = tuple(range(12))
PLAN = Plan(steps=2, guidance=1.0, batch=2)
TOTAL = len(PROMPTS) * len(SEEDS)


def all_there(store: Store, filled: Filled) -> bool:
    """Whether the store holds every sample of every recipe."""
    return all(
        not store.missing(recipe, [(p.text, s) for p in PROMPTS for s in SEEDS]) for recipe in filled.recipes.values()
    )


def damaged(sound: Path, folder: Path, word: str = "pilot") -> Path:
    """A copy of a model in which the embedding of one word is not finite: its other prompts are sound."""
    shutil.copytree(sound, folder)
    token = load_model(folder, device="cpu")._parts.tokenizers["tokenizer"].convert_tokens_to_ids(f"{word}</w>")
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    next(t for name, t in tensors.items() if name.endswith("token_embedding.weight"))[token] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    return folder


def main(name: str, model: str, store: str) -> None:
    """Fills a store with one worker of an engine, and says how far it is."""
    # Tests that were begun in the background of a shell have Ctrl-C ignored, and so has what they begin.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(done: int, total: int) -> None:
        print(done, flush=True)
        time.sleep(0.1)  # so that whoever listens comes before the end

    try:
        with engine(1, name) as fill:
            fill(
                Store.open(store),
                load_model(model, device="cpu"),
                PROMPTS,
                SEEDS,
                PLAN,
                say,
            )
    except ScalexError as error:
        print(error, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
