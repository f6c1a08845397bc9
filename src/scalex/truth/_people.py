"""Leans and rates of people against the truth: the first of the scores, over all seeds or over blocks of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm, pearsonr, spearmanr

from scalex import analyses
from scalex.analyses.rates import METHOD, classify
from scalex.auditing import audit, latents_of
from scalex.capture import Progress
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms.check import FIRST_SEED, Tally, Viewer, draw_shares
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout, Truth
from scalex.prompts import AuditSpec
from scalex.records import Finding, Latents, Reading
from scalex.truth._bed import Bed

__all__ = ["SCORERS", "Scored", "blocks", "score_people"]

_PLAIN = 0.1  # the sign of a lean is judged where the share is this far from even
_ALPHA = 0.05
_SINGLES = 32  # seeds whose single pictures are read exactly, too
_LEAST = 4  # seeds, in an audit
_SCORED = ("defaults", "rates")  # the analyses whose findings are scored


@dataclass(frozen=True)
class Scored:
    """Findings beside the truth.

    Attributes:
        table: one row a concept and attribute: `planted`, `drawn` (and `n` pictures behind it, of `images`), the leans
            of both readings (`text`, `picture`; NaN where not expressed) and their verdicts, the rate with `low` and
            `high`.
        singles: share of single pictures that the picture reading tells right, by attribute; empty where single
            pictures were not looked at.
        same: how far the share of pictures that it calls the second value is from the share that shows it, in the very
            same pictures: mean over concepts, by attribute. No sampling error, no correction: its reading alone.
    """

    table: pd.DataFrame
    singles: Mapping[str, float] = field(default_factory=dict)
    same: Mapping[str, float] = field(default_factory=dict)


def score_people(bed: Bed, *, block: int | None = None) -> list[Mark]:
    """Audits the organism's people and returns every figure with its mark; the table is left in `out/truth.csv`.

    Args:
        block: cuts the seeds into disjoint blocks of so many. Each is analysed as an audit of its own, and each mark is
            the mean over blocks, with its range: one draw of few seeds may be a lucky one. Single pictures are then
            left out: they are those of the whole audit. (And so is the table.)

    Raises:
        ScalexError: `out` cannot be written, or the seeds do not make whole blocks.
    """
    if block is not None and (block < _LEAST or bed.seeds % block):
        raise ScalexError(f"{bed.seeds} seeds do not make blocks of {block}", f"Take a divisor, {_LEAST} or more")
    out, progress = bed.out, bed.progress
    kinds = {"attributes": ["gender", "tone"], "analyses": ["defaults", "rates", "disagreement"]}
    asked = bed.spec(concepts=list(bed.truth.spec.people), **kinds)
    result, job = audit(spec=asked, out=out, progress=progress), prepare(spec=asked)
    readout, latents = Readout(bed.truth, job.model), latents_of(result)
    realised = _realised(job, readout, out, bed.images, progress)
    table = _beside(realised, result.findings)
    with disk_errors(out, option="--out"):
        write_atomic(out / "truth.csv", table.to_csv(index=False))
    if block is not None:
        return _score_blocks(realised, latents, job.spec, block)
    return _marks(Scored(table, *_singles(job, latents["picture"], _shown(job, readout, out, progress))))


def blocks(latents: Latents, size: int) -> list[Latents]:
    """The latents cut into disjoint blocks of so many seeds, in their order. A rest that fills no block is left out."""
    starts = range(0, len(latents.seeds) - size + 1, size)
    cuts = [slice(start, start + size) for start in starts]
    return [replace(latents, values=latents.values[:, cut], seeds=latents.seeds[cut]) for cut in cuts]


def _score_blocks(realised: pd.DataFrame, latents: Mapping[Reading, Latents], spec: AuditSpec, size: int) -> list[Mark]:
    """Every figure as the mean over blocks of seeds, each analysed as an audit of its own."""
    parts = [dict(zip(latents, part)) for part in zip(*(blocks(x, size) for x in latents.values()), strict=True)]
    scored = [_marks(Scored(_beside(realised, _findings(part, spec)))) for part in parts]
    return [_mean_mark(same) for same in zip(*scored, strict=True)]


def _findings(latents: Mapping[Reading, Latents], spec: AuditSpec) -> pd.DataFrame:
    found = analyses.run(_SCORED, latents, spec.attribute_values, spec.rules)
    return pd.DataFrame([asdict(f) for f in found], columns=list(Finding.columns()))


def _mean_mark(marks: Sequence[Mark]) -> Mark:
    """One figure over all blocks. It is unknown where it is unknown in any of them."""
    values = np.array([m.value for m in marks])
    least, greatest = float(values.min()), float(values.max())
    return replace(marks[0], value=float(values.mean()), spread=(least, greatest) if least < greatest else None)


def _marks(scored: Scored) -> list[Mark]:
    return [mark for score in SCORERS for mark in score(scored)]


def _realised(job: Job, readout: Readout, out: Path, images: int, progress: Progress | None = None) -> pd.DataFrame:
    """What the model draws: the table of `draw_shares` for every concept of the organism. Drawn once and kept."""
    concepts, templates = list(readout.truth.spec.people), job.spec.templates
    file = out / f"realised-{_key(job, readout.truth, concepts, templates, FIRST_SEED, images)}.csv"
    if not file.exists():
        viewer = Viewer(job.model, job.plan, readout, Tally(len(concepts) * images, progress))
        _draw_each(viewer, concepts, images, templates, file)
    return pd.read_csv(file)


def _draw_each(viewer: Viewer, concepts: Sequence[str], images: int, templates: Sequence[str], file: Path) -> None:
    """Draws concept after concept and keeps each: an interrupted drawing goes on where it was."""
    part = file.with_suffix(".part")
    drawn = [pd.read_csv(part)] if part.exists() else []
    done = set(drawn[0].concept) if drawn else set()
    viewer.tally.add(len(done) * images)
    for concept in concepts:
        if concept not in done:
            drawn.append(draw_shares(viewer, [concept], images, templates))
            with disk_errors(file.parent, option="--out"):
                write_atomic(part, pd.concat(drawn).to_csv(index=False))
    part.replace(file)


def _key(job: Job, truth: Truth, *drawn: object) -> str:
    """12 hexadecimal digits for all that determines pictures, what is read in them and what was planted.

    The recipe speaks for model, sampler, steps, guidance and precision, `drawn` for texts and seeds.
    """
    recipe = job.plan.recipes(job.model)["picture"].id
    parts = (recipe, truth.spec.model_dump_json(), truth.shown, drawn)
    digest = hashlib.sha256(repr(parts).encode())
    digest.update(truth.latents.numpy().tobytes())
    return digest.hexdigest()[:12]


def _beside(realised: pd.DataFrame, findings: pd.DataFrame) -> pd.DataFrame:
    """The realised shares with what the audit says of them: the table of `Scored`."""
    return realised.merge(_wide(findings), on=["concept", "attribute"], validate="one_to_one")


def _wide(findings: pd.DataFrame) -> pd.DataFrame:
    """One row a concept and attribute, with what the audit says of it."""
    key = ["target", "attribute"]
    leans = findings[findings.analysis == "defaults"]
    rates = findings[(findings.analysis == "rates") & findings.value.isin(leans.value.unique())]
    wide = rates[[*key, "estimate", "low", "high", "separability", "verdict"]]
    wide = wide.rename(columns={"estimate": "rate", "verdict": "rate_verdict"})
    for reading, rows in leans.groupby("reading"):
        names = {"estimate": reading, "verdict": f"{reading}_verdict"}
        wide = wide.merge(rows[[*key, "estimate", "verdict"]].rename(columns=names), on=key, how="outer")
    return wide.rename(columns={"target": "concept"})


def _shown(job: Job, readout: Readout, out: Path, progress: Progress | None = None) -> pd.DataFrame:
    """What the pictures of the first neutral samples show, by the exact readout: templates outer, seeds inner.

    Columns: concept, and a label by attribute (0 and 1 are its values, in order). Drawn once and kept.
    """
    some = job.seeds[:_SINGLES]
    neutral = [(p.concept, p.text) for p in job.prompts if not p.attribute]
    file = out / f"shown-{_key(job, readout.truth, neutral, some)}.csv"
    if not file.exists():
        viewer = Viewer(job.model, job.plan, readout, Tally(len(neutral) * len(some), progress))
        seen = viewer.see([(text, seed) for _, text in neutral for seed in some])
        concepts = [concept for concept, _ in neutral for _ in some]
        table = pd.DataFrame({"concept": concepts, "gender": seen.genders, "tone": seen.tones})
        with disk_errors(out, option="--out"):
            write_atomic(file, table.to_csv(index=False))
    return pd.read_csv(file)


def _singles(job: Job, latents: Latents, pictures: pd.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """How often the picture reading of a single sample agrees with what its picture shows, and in sum.

    Args:
        pictures: as `_shown` gives them. Those that show neither value are left out.
    """
    agree: dict[str, list[np.bool_]] = {name: [] for name in job.spec.attributes}
    apart: dict[str, list[float]] = {name: [] for name in job.spec.attributes}
    some = job.seeds[:_SINGLES]
    for concept in latents.concepts:
        for name, values in job.spec.attribute_values.items():
            variants = np.stack([latents.of(concept, name, v) for v in values]).astype(np.float64)
            called = classify(latents.of(concept).astype(np.float64), variants, METHOD)[:, : len(some)].ravel()
            shown = pictures.loc[pictures.concept == concept, name].to_numpy()
            clear = (shown == 0) | (shown == 1)
            agree[name] += list((called == shown)[clear])
            apart[name] += [abs(called[clear].mean() - shown[clear].mean())] if clear.any() else []
    return {n: _mean(a) for n, a in agree.items()}, {n: _mean(a) for n, a in apart.items()}


def _mean(values: ArrayLike) -> float:
    """The mean; NaN of nothing."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.mean()) if numbers.size else float("nan")


def _of(scored: Scored) -> Iterator[tuple[str, pd.DataFrame]]:
    for attribute, rows in scored.table.groupby("attribute"):
        yield str(attribute), rows


def score_leans(scored: Scored) -> Iterator[Mark]:
    """Rank and sign of the leans, against both truths, for both readings. Only the picture's against what is realised
    has marks."""
    for attribute, rows in _of(scored):
        for reading, rank, sign in (("picture", 0.95, 0.97), ("text", None, None)):
            said = rows[rows[reading].notna()]
            lean, drawn, planted = said[reading], said.drawn, said.planted
            name = f"lean, {attribute}, {reading} reading"
            yield Mark(f"{name}: expressed, share of {len(rows)} concepts", len(said) / len(rows))
            yield Mark(f"{name}: Spearman with realised", _safe(spearmanr, lean, drawn), rank)
            yield Mark(f"{name}: Pearson with realised", _safe(pearsonr, lean, drawn))
            yield Mark(f"{name}: Spearman with planted", _safe(spearmanr, lean, planted))
            yield Mark(f"{name}: Pearson with planted", _safe(pearsonr, lean, planted))
            yield Mark(f"{name}: sign right where the share is {_PLAIN:g} from even", _signs(lean, drawn), sign)
            yield Mark(f"{name}: sign right where planted is {_PLAIN:g} from even", _signs(lean, planted))


def _signs(lean: pd.Series, share: pd.Series) -> float:
    """How often a lean has the sign of the share less one half, where that is plain."""
    away = (share - 0.5).round(9)  # 0.6 - 0.5 is a little less than 0.1
    plain = away.abs() >= _PLAIN
    return float((np.sign(lean[plain]) == np.sign(away[plain])).mean())


def score_rates(scored: Scored) -> Iterator[Mark]:
    """Rates against the realised shares, their intervals, and single pictures."""
    for attribute, rows in _of(scored):
        said = rows[rows.rate.notna()]
        yield Mark(f"rate, {attribute}: r with realised", _safe(pearsonr, said.rate, said.drawn), 0.97)
        yield Mark(
            f"rate, {attribute}: mean absolute error", float((said.rate - said.drawn).abs().mean()), 0.05, at_most=True
        )
        covered = ((said.low <= said.drawn) & (said.drawn <= said.high)).mean()
        yield Mark(f"rate, {attribute}: 95 % intervals cover", float(covered), 0.90, within=0.99)
        yield Mark(f"rate, {attribute}: they cover, the realised share's own error allowed for", _covers(said))
        if scored.singles:
            yield Mark(f"rate, {attribute}: single pictures read right", scored.singles[attribute], 0.93)
            yield Mark(f"rate, {attribute}: mean absolute error on the same pictures", scored.same[attribute])


def _covers(said: pd.DataFrame) -> float:
    """Share of rates that differ from the realised one by no more than both errors allow.

    The realised share is known from finitely many pictures only. Its error (Agresti and Coull 1998, American
    Statistician 52: 119-126) is joined with the interval's, as for a difference (Zou and Donner 2008).
    """
    n = said.n + 4
    middle = (said.drawn * said.n + 2) / n
    own = norm.ppf(0.975) ** 2 * middle * (1 - middle) / n
    low = said.rate - np.sqrt((said.rate - said.low) ** 2 + own)
    high = said.rate + np.sqrt((said.high - said.rate) ** 2 + own)
    return float(((low <= said.drawn) & (said.drawn <= high)).mean())


def score_controls(scored: Scored) -> Iterator[Mark]:
    """False alarms: controls, planted at exactly 1/2, that are said to lean.

    Training moves many controls off 1/2, and an alarm to that side is right. So an alarm is false where the realised
    share is compatible with 1/2 (an exact binomial test at 5 % does not reject it), or where the alarm points to the
    side opposite to the realised share. The share of false alarms is that of the controls on which an alarm would be
    false: the compatible ones, plus any whose alarm points to the opposite side.

    Beside it: how many of all controls are compatible ("drawn evenly"), and how many of all are said to lean. A control
    whose pictures show neither value has no realised share: it counts in these two only, as not drawn evenly.
    """
    for attribute, rows in _of(scored):
        controls = rows[rows.planted == 0.5]
        if controls.empty:
            continue
        even, where = _drawn_evenly(controls), f"controls, {attribute}"
        yield Mark(f"{where}: drawn evenly, share of {len(controls)}", float(even.mean()))
        for what, neutral, mark in (("picture", 0.0, 0.05), ("text", 0.0, None), ("rate", 0.5, 0.05)):
            alarms = controls[f"{what}_verdict"].str.startswith("leans", na=False).to_numpy(dtype=bool)
            opposite = (controls[what] - neutral) * (controls.drawn - 0.5) < 0
            would_be_false = even | (alarms & opposite.to_numpy())
            yield Mark(f"{where}, {what}: said to lean, share of {len(controls)}", float(alarms.mean()))
            false = _mean(alarms[would_be_false])
            yield Mark(f"{where}, {what}: false alarms", false, mark, at_most=True)


def _drawn_evenly(rows: pd.DataFrame) -> Bool[np.ndarray, "rows"]:
    """Whether each realised share is compatible with 1/2."""
    counts = [(round(d * n) if n else 0, int(n)) for d, n in zip(rows.drawn, rows.n, strict=True)]
    return np.array([n > 0 and binomtest(k, n).pvalue >= _ALPHA for k, n in counts], dtype=bool)


def score_drawn(scored: Scored) -> Iterator[Mark]:
    """How many pictures show neither of an attribute's two values: a middle tone, or nobody."""
    for attribute, rows in _of(scored):
        yield Mark(f"pictures, {attribute}: neither value", float(1 - rows.n.sum() / rows.images.sum()))


def _safe(correlate: Callable[..., tuple[float, float]], a: pd.Series, b: pd.Series) -> float:
    return float(correlate(a, b)[0]) if len(a) > 2 and a.nunique() > 1 and b.nunique() > 1 else float("nan")


SCORERS: tuple[Callable[[Scored], Iterator[Mark]], ...] = (score_leans, score_rates, score_controls, score_drawn)
