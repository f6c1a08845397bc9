"""The engine of one process: what is missing in the store is captured here, and written batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scalex.batches import device_failed
from scalex.capture import Plan, Progress
from scalex.engine._work import Count, Filled, cut, missing, run_unit, together
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store
from scalex.tuning import tuned

__all__ = ["NAME", "begin", "fill"]

NAME = "local"

_AGAIN = "Run the same command again to go on from there"


def fill(
    store: Store,
    model: Model,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    plan: Plan,
    progress: Progress | None = None,
) -> Filled:
    """Captures what the store is missing of these prompts and seeds, and writes it batch by batch.

    Args:
        progress: called with the number of samples done and to do: at the start, and after each batch.

    Raises:
        ScalexError: it was interrupted or the device failed (what was written is kept), or as
            `scalex.capture.capture` and the store raise.
    """
    began, recipes = time.perf_counter(), plan.recipes(model)
    groups = missing(store, recipes, prompts, seeds)
    total = sum(map(len, groups.values()))
    plan = tuned(model, plan, total)
    count, parts = Count(total, progress), []
    try:
        for unit in cut(groups, max(1, total)):
            parts.append(run_unit(store, model, plan, recipes, unit, count.after(count.done)))
    except KeyboardInterrupt:
        raise ScalexError(f"interrupted: {_kept(count, plan)}", _AGAIN) from None
    except RuntimeError as error:
        if not device_failed(error):
            raise
        said = f"{model.device} failed ({str(error).splitlines()[0].rstrip('.')})"
        raise ScalexError(f"{said}: {_kept(count, plan)}", _AGAIN) from error
    return together(recipes, prompts, seeds, parts, began)


def _kept(count: Count, plan: Plan) -> str:
    """How far it came; of a block of moments that is not whole, nothing is kept."""
    kept = count.done - count.done % max(1, plan.moments)
    return f"{kept} of {count.total} samples were captured and are kept"


@contextmanager
def begin(workers: int | None, address: str | None) -> Iterator[Any]:
    """This process as an engine: it gives `fill`.

    Raises:
        ScalexError: more workers than one, or an address, which it has no use for.
    """
    if address is not None:
        raise ScalexError("the local engine has no address", "Leave out --engine, or name ray")
    if workers not in (None, 1):
        raise ScalexError(f"the local engine can't have {workers} workers", "Leave out --engine, or name processes")
    yield fill
