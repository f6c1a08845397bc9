"""The batch size that suits a model on this device: found by a short search where that pays, and remembered."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scalex.batches import batch_size
from scalex.caches import cache_folder
from scalex.capture import capture
from scalex.disk import write_atomic
from scalex.models import Model
from scalex.plan import Plan

__all__ = ["search", "tuned"]

_WORTH = 400  # usual batches: of so much work, the search takes about a thirtieth
_GAIN = 1.03  # a size is taken where its double is not faster by this
_MOST = 512
_TRIES = 3


def tuned(model: Model, plan: Plan, samples: int) -> Plan:
    """The plan with a batch size that was found on this device, now or before; as it is where it names one itself,
    where little is to be done, or where the cache is off (see `scalex.caches`)."""
    file = _file(model, plan) if plan.batch is None else None
    if file is None:
        return plan
    known = _remembered(file)
    if known is None and samples >= _WORTH * batch_size(model, plan):
        known = search(model, plan)
        _remember(file, _terms(model, plan) | {"batch": known})
    return replace(plan, batch=known)


def search(model: Model, plan: Plan) -> int:
    """The smallest batch size whose double captures hardly more a second (or does not fit), from a quarter of the usual
    one on."""
    size = max(1, batch_size(model, plan) // 4)
    rate = _rate(model, plan, size)
    while size < _MOST:
        next_rate = _rate(model, plan, 2 * size)
        if next_rate < rate * _GAIN:
            break
        size, rate = 2 * size, next_rate
    return size


def _rate(model: Model, plan: Plan, size: int) -> float:
    """Samples a second in batches of this size, at best; 0 where such a batch does not fit into memory."""
    samples, seconds = [("", seed) for seed in range(size)], []
    for _ in range(_TRIES):
        stats = capture(model, samples, replace(plan, batch=size), lambda *_: None)
        if stats.batch < size:
            return 0.0
        seconds.append(stats.seconds)
    return size / min(seconds)


def _terms(model: Model, plan: Plan) -> dict[str, Any]:
    """All that the best size depends on."""
    cuda = model.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(model.device) if cuda else model.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model": model.fingerprint,
        "compiled": model.source.compile,
        "precision": model.precision,
        "latent": model.latent_shape,
        "probe": model.probe,
        "forwards": plan.resolve(model).forwards,
        "pooling": plan.pooling,
    }


def _file(model: Model, plan: Plan) -> Path | None:
    folder = cache_folder("batches")
    name = hashlib.sha256(json.dumps(_terms(model, plan)).encode()).hexdigest()[:32]
    return folder and folder / f"{name}.json"


def _remembered(file: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: searched for anew
        found = json.loads(file.read_text(encoding="utf-8"))["batch"]
        return found if isinstance(found, int) and 1 <= found <= _MOST else None
    return None


def _remember(file: Path, found: dict[str, Any]) -> None:
    with suppress(OSError):  # then it is searched for again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(found, indent=1) + "\n")
