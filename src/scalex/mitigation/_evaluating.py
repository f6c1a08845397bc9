"""What a mitigation does on seeds that it was not calibrated on, beside rewritten prompts and an erased direction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from scalex import stats
from scalex.capture import Progress, Sample, Steer
from scalex.drawings import Drawings
from scalex.engine import Fill, fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.mitigation._doses import uniform
from scalex.mitigation._mitigation import Mitigation
from scalex.mitigation._reading import prompts_of, reader_of
from scalex.mitigation._seeing import ByReading, Eye, Seen, by_scorers
from scalex.scorers import AttributeScorer
from scalex.steering import Erase, Push
from scalex.store import Store

__all__ = ["METHODS", "Evaluation", "evaluate"]

METHODS = ("unsteered", "mitigated", "rewritten", "erased")
_FRESH = 1_500_000  # where seeds of an evaluation begin: far from those of an audit
_SEEDS, _RESAMPLES, _LEVEL = 32, 2000, 0.95

Way: TypeAlias = Callable[[str, list[Sample]], tuple[list[Sample], Steer | None, Bool[np.ndarray, "n"]]]
"""Of a concept and its samples: what is drawn in their place, under which edit, and which of them that touches."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        table: a row a method and concept: `target`, `rate` with `low` and `high`, `residual` (how far the rate is from
            the target), `kept` (share that shows the concept), `touched` (share that is drawn otherwise than unsteered)
            and `change` (distance to the unsteered picture, over all).
        groups: a row a method, concept and value that the unsteered picture shows: `n`, `turned` (share that shows the
            other value then), `touched`, `kept`, `change`.
        summary: a row a method: mean `residual` with `low` and `high` over resampled seeds, `kept` as a part of that of
            the unsteered, mean `touched` and `change`.
        readout: who said what pictures show. unit: of `change`. seeds: that were drawn.
    """

    table: pd.DataFrame
    groups: pd.DataFrame
    summary: pd.DataFrame
    readout: str
    unit: str
    seeds: tuple[int, ...]

    @property
    def text(self) -> str:
        """All of it as JSON; unknown numbers are null."""
        tables = {"summary": self.summary, "concepts": self.table, "groups": self.groups}
        told = {name: json.loads(table.to_json(orient="records", double_precision=6)) for name, table in tables.items()}
        return json.dumps({"readout": self.readout, "unit": self.unit, "seeds": self.seeds, **told}, ensure_ascii=False)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The summary, then a line a concept with its rates under each method, as text."""
        yield ("method", "|rate - target|", "95 % interval", "concept kept", "touched", "change")
        for s in self.summary.to_dict("records"):
            ends = f"{s['low']:.3f} to {s['high']:.3f}"
            yield (s["method"], f"{s['residual']:.3f}", ends, *(_said(s[k]) for k in ("kept", "touched", "change")))

    def concept_rows(self) -> Iterator[tuple[str, ...]]:
        """A line a concept: target, and rate under each method with its interval."""
        methods = list(self.summary["method"])
        yield ("concept", "target", *methods, "kept", "change")
        for concept, rows in self.table.groupby("concept", sort=False):
            by = rows.set_index("method").to_dict("index")
            rates = [f"{r['rate']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in (by[m] for m in methods)]
            own = by["mitigated"]
            yield (str(concept), f"{own['target']:.2f}", *rates, _said(own["kept"]), _said(own["change"]))


def _said(number: float) -> str:
    return "unknown" if np.isnan(number) else f"{number:.2f}"


def evaluate(
    job: Job,
    mitigation: Mitigation,
    store: Store | None = None,
    *,
    concepts: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    scorers: Sequence[AttributeScorer] = (),
    methods: Sequence[str] = METHODS,
    drawings: Drawings | None = None,
    progress: Progress | None = None,
    engine: Fill = fill,
) -> Evaluation:
    """Draws pictures on fresh seeds in each way, and says what they show.

    Ways: *mitigated*; *rewritten*, where the prompt of the wanted value ("a woman nurse") takes the neutral one's place
    as often as brings the rate to the target, if pictures show what prompts say; *erased*, where at every step what the
    probe's value has of the direction becomes that of the middle between the variants.

    Args:
        job: of calibration, or another of the same model. concepts: None for all of the mitigation.
        store: of calibration, for the picture reading; not needed with scorers.
        seeds: none of calibration's; by default 32 far from an audit's.
        scorers: of the attribute, and of the attribute "concept"; without any the picture reading sees.
        methods: of `METHODS`; the first two are always drawn.
        drawings: where what is drawn is kept, and found again. progress: called with pictures done and to do.

    Raises:
        ScalexError: seeds are those of calibration, a concept or a scorer is not right, or store and scorers lack.
    """
    chosen = list(mitigation.remedies if concepts is None else concepts)
    pair, numbers = mitigation.values, tuple(range(_FRESH, _FRESH + _SEEDS) if seeds is None else seeds)
    for concept in chosen:
        mitigation.remedy_of(concept)
    if set(numbers) & set(mitigation.made.seeds):
        raise ScalexError("some seeds are those of calibration", "Evaluate on others")
    if len(numbers) < stats.MIN_SEEDS:
        raise ScalexError(f"{len(numbers)} seeds cannot carry an interval", f"Use at least {stats.MIN_SEEDS} seeds")
    if scorers:
        eye: Eye = by_scorers(job.model, job.plan, scorers, mitigation.attribute, pair, chosen, drawings)
    elif store is None:
        raise ScalexError("nothing says what pictures show", "Give the store of calibration, or scorers")
    else:
        everyone = list(mitigation.remedies)
        asked_of = (job, store, mitigation.attribute, pair, everyone, mitigation.made.seeds)
        eye = ByReading(reader_of(*asked_of, progress, engine, drawings))
    asked = [m for m in METHODS if m in {*METHODS[:2], *methods}]
    return _Trial(job, mitigation, eye, numbers, asked, progress).run(chosen)


@dataclass
class _Trial:
    """One evaluation under way."""

    job: Job
    mitigation: Mitigation
    eye: Eye
    seeds: tuple[int, ...]
    methods: Sequence[str]
    progress: Progress | None

    def run(self, concepts: Sequence[str]) -> Evaluation:
        """All methods on all concepts."""
        ways = {"mitigated": self._mitigated, "rewritten": self._rewritten(concepts), "erased": self._erased}
        rows, groups, tally = [], [], 0
        shown: dict[str, list[Float[np.ndarray, "templates seeds"]]] = {m: [] for m in self.methods}
        total = sum(len(self.mitigation.texts[c]) for c in concepts) * len(self.seeds) * len(self.methods)
        for concept in concepts:
            samples = [(text, seed) for text in self.mitigation.texts[concept] for seed in self.seeds]
            plain = self.eye.see(concept, samples, None)
            for method in self.methods:
                seen, touched = plain, np.zeros(len(samples), bool)
                if method != "unsteered":
                    seen, touched = self._under(ways[method], concept, samples, plain)
                shown[method].append(seen.second.reshape(-1, len(self.seeds)))
                rows.append({"method": method, "concept": concept, **self._row(concept, plain, seen, touched)})
                groups += [{"method": method, "concept": concept, **g} for g in self._groups(plain, seen, touched)]
                tally += len(samples)
                if self.progress:
                    self.progress(tally, total)
        table = pd.DataFrame(rows)
        summary = pd.DataFrame([self._summed(m, table, shown[m]) for m in self.methods])
        return Evaluation(table, pd.DataFrame(groups), summary, self.eye.name, self.eye.unit, self.seeds)

    def _under(self, way: Way, concept: str, samples: list[Sample], plain: Seen) -> tuple[Seen, Bool[np.ndarray, "n"]]:
        """What is seen in one way. What it does not touch is as it was, and is not drawn again."""
        asked, steer, touched = way(concept, samples)
        if not touched.any():
            return plain, touched
        some = self.eye.see(concept, [one for one, is_on in zip(asked, touched) if is_on], steer)
        parts = [np.array(part) for part in (plain.second, plain.kept, plain.look)]
        for part, new in zip(parts, (some.second, some.kept, some.look)):
            part[touched] = new
        return Seen(*parts), touched

    # ------------------------------------------------------------------------------------------------ the ways

    def _mitigated(self, concept: str, samples: list[Sample]) -> tuple[list[Sample], Steer, Bool[np.ndarray, "n"]]:
        alphas = {(text, seed): self.mitigation.alpha_of(concept, text, seed) for text, seed in samples}
        touched = np.array([alphas[sample] != 0 for sample in samples])
        return samples, Push(self.mitigation.remedies[concept].vector.direction, alphas), touched

    def _erased(self, concept: str, samples: list[Sample]) -> tuple[list[Sample], Steer, Bool[np.ndarray, "n"]]:
        vector = self.mitigation.remedies[concept].vector
        return samples, Erase(vector.direction, vector.centre), np.ones(len(samples), bool)

    def _rewritten(self, concepts: Sequence[str]) -> Way:
        """Explicit prompts, as often as the unsteered rate of calibration asks for."""
        prompts = prompts_of(self.job, self.mitigation.attribute, self.mitigation.values, concepts)
        said: dict[tuple[str, str], list[str]] = {}
        for p in prompts:
            said.setdefault((p.concept, p.value), []).append(p.text)

        def rewritten(concept: str, samples: list[Sample]) -> tuple[list[Sample], None, Bool[np.ndarray, "n"]]:
            remedy = self.mitigation.remedies[concept]
            rate, up = remedy.curve.rates[0], remedy.target > remedy.curve.rates[0]
            gap = (1 - rate) if up else rate
            share = abs(remedy.target - rate) / gap if gap > 0 else 0.0
            explicit = dict(zip(said[concept, ""], said[concept, self.mitigation.values[int(up)]], strict=True))
            touched = np.array([uniform(text, ("", seed)) < share for text, seed in samples])
            return [(explicit[text], seed) for text, seed in samples], None, touched

        return rewritten

    # ------------------------------------------------------------------------------------------------ the figures

    def _row(self, concept: str, plain: Seen, seen: Seen, touched: Bool[np.ndarray, "n"]) -> dict[str, float]:
        target, known = self.mitigation.remedies[concept].target, seen.second[~np.isnan(seen.second)]
        first, second = self.eye.errors(concept)
        observed = float(known.mean()) if len(known) else np.nan
        ends = stats.wilson(observed, float(len(known)), _LEVEL) if len(known) else (np.nan, np.nan)
        rate, low, high = (stats.rogan_gladen(x, second, first) for x in (observed, *ends))
        told = {"target": target, "rate": rate, "low": low, "high": high, "residual": abs(rate - target)}
        return told | _damage(plain, seen, touched)

    def _groups(self, plain: Seen, seen: Seen, touched: Bool[np.ndarray, "n"]) -> Iterator[dict[str, object]]:
        """A row for the unsteered pictures of each value, where there are any."""
        for code, value in enumerate(self.mitigation.values):
            own = (plain.second >= 0.5) == bool(code)
            own &= ~np.isnan(plain.second)
            if own.any():
                turned = float(((seen.second[own] >= 0.5) != bool(code)).mean())
                parts = [Seen(s.second[own], s.kept[own], s.look[own]) for s in (plain, seen)]
                yield {
                    "value": value,
                    "n": int(own.sum()),
                    "turned": turned,
                    **_damage(parts[0], parts[1], touched[own]),
                }

    def _summed(
        self, method: str, table: pd.DataFrame, shown: Sequence[Float[np.ndarray, "templates seeds"]]
    ) -> dict[str, object]:
        own = table[table["method"] == method]
        plain = float(table.loc[table["method"] == "unsteered", "kept"].mean())
        residual = float(own["residual"].mean())
        low, high = self._interval(residual, list(own["concept"]), shown)
        told = {"method": method, "residual": residual, "low": low, "high": high}
        kept = float(own["kept"].mean()) / plain if plain > 0 else np.nan
        return told | {"kept": kept, "touched": float(own["touched"].mean()), "change": float(own["change"].mean())}

    def _interval(
        self, residual: float, concepts: Sequence[str], shown: Sequence[Float[np.ndarray, "templates seeds"]]
    ) -> tuple[float, float]:
        """Of the mean residual, over resampled seeds.

        Chance moves rates away from targets, in what was seen and once more in each resample. So the percentiles lie
        high, and mirrored at the estimate (the basic bootstrap) low: the interval is from the one to the other.
        """
        plan = stats.resampling_plan(len(shown[0]), len(self.seeds), _RESAMPLES, np.random.default_rng(0))
        residuals = []
        for concept, values in zip(concepts, shown, strict=True):
            first, second = self.eye.errors(concept)
            counted = np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=-1).astype(float)
            sums = stats.bootstrap_means(plan, counted)
            rates = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
            true = np.clip((rates + first - 1) / max(first + second - 1, 1e-12), 0, 1)
            residuals.append(np.abs(true - self.mitigation.remedies[concept].target))
        high = np.quantile(np.mean(residuals, axis=0), (1 + _LEVEL) / 2)
        return max(0.0, min(residual, 2 * residual - float(high))), max(residual, float(high))


def _damage(plain: Seen, seen: Seen, touched: Bool[np.ndarray, "n"]) -> dict[str, float]:
    return {
        "kept": float(seen.kept.mean()),
        "touched": float(touched.mean()),
        "change": float(seen.apart(plain).mean()),
    }
