"""The engine of one process: what is missing in the store is captured here, and written batch by batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scalex.capture import Plan, Progress
from scalex.engine._work import Count, Filled, cut, missing, run_unit, together
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store

__all__ = ["NAME", "fill"]

NAME = "local"


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
        ScalexError: it was interrupted (what was written is kept), or as `scalex.capture.capture` and the store raise.
    """
    began, recipes = time.perf_counter(), plan.recipes(model)
    groups = missing(store, recipes, prompts, seeds)
    total = sum(map(len, groups.values()))
    count, parts = Count(total, progress), []
    try:
        for unit in cut(groups, max(1, total)):
            parts.append(run_unit(store, model, plan, recipes, unit, count.after(count.done)))
    except KeyboardInterrupt:
        kept = count.done - count.done % max(1, plan.moments)
        said = f"interrupted: {kept} of {count.total} samples were captured and are kept"
        raise ScalexError(said, "Run the same command again to go on from there") from None
    return together(recipes, prompts, seeds, parts, began)
