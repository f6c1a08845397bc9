"""Dose-response: does pushing along a direction change pictures as the finding claims, more with every step of alpha?

Pictures of the same seeds are drawn at every alpha; a readout that is not the direction's own (an organism's exact one,
the picture reading, CLIP, a classifier, a user's function) says where between the two values each one stands. The slope
of that over alpha, with an interval over seeds, is the causal evidence; beside it stands what else changed, and what
directions do that mean nothing: random ones and ones with shuffled channels, of equal length. See
docs/dose_response.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalex import runs, stats
from scalex.auditing import Audit, latents_of, open_run, render_report
from scalex.capture import Progress
from scalex.disk import disk_errors, write_atomic
from scalex.drawings import Drawings
from scalex.errors import ScalexError, resumable
from scalex.jobs import Job, prepare
from scalex.prompts import build_prompts
from scalex.readouts import named_readouts
from scalex.records import Finding, Latents, Rules
from scalex.report import numbers, views, write_tables
from scalex.scorers import Readouts
from scalex.steering_vectors import pair_of, steering_vectors
from scalex.store import Store
from scalex.validation._claims import claims_of, strongest
from scalex.validation._doses import Case, Doses, Pusher, Readers, controls, readers_of
from scalex.validation._effects import Evidence, drift, effect, slopes, trend, verdict
from scalex.validation._telling import Tried, calibration_rows, corrected_slope, curve_rows, strip_rows
from scalex.wording import did_you_mean

__all__ = ["NAME", "Case", "DoseResponse", "Doses", "cases_of", "dose_response", "strongest", "validate"]

NAME = "dose_response"
_UNIT = "share per alpha"
_TABLES = ("curves", "drifts", "controls", "calibration", "strips")
_SHOWN = 2  # seeds whose pictures are shown
_LEARNED = 16  # seeds, of the audit's, that directions are learned from


@dataclass(frozen=True)
class DoseResponse:
    """What pushing showed.

    Attributes:
        findings: one row a case, as in `scalex.records.Finding`: the estimate is the slope, per step of alpha.
        tables: `curves` (mean readout by direction and alpha, with its interval), `drifts` (what else changed),
            `controls` (slopes of directions that mean nothing), `calibration` (how right the scorer is on pictures of
            known values, where that was asked for, and the slope with its mistakes taken out) and `strips` (small
            pictures, alpha from left to right).
        folder: of the run that it was written to; None where it was not.
    """

    findings: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    folder: Path | None = None

    @property
    def text(self) -> str:
        """All of it but the small pictures, as JSON."""
        parts = {"findings": self.findings, **{name: t for name, t in self.tables.items() if name != "strips"}}
        told = {name: json.loads(table.to_json(orient="records")) for name, table in parts.items()}
        return json.dumps(told, ensure_ascii=False, indent=1)

    def lines(self) -> Iterator[str]:
        """What to print of each finding."""
        for f in views.records(self.findings):
            ends = numbers.interval(f["low"], f["high"], "lean")
            slope = "no slope" if math.isnan(f["estimate"]) else f"{f['estimate']:+.2f} per alpha ({ends})"
            yield f"{f['target']}, {f['attribute']}, to {f['value']}: {f['verdict']}; {slope}. {f['reason']}"


def dose_response(
    job: Job,
    cases: Sequence[Case],
    readouts: Readouts,
    doses: Doses | None = None,
    *,
    drawings: Drawings | None = None,
    progress: Progress | None = None,
) -> DoseResponse:
    """Pushes along the direction of each case and says what that does. The same job, cases and doses give the same.

    Args:
        readouts: the scorer of a concept's pictures, by concept, attribute and values.
        drawings: where pictures are kept, and found again; None keeps none.
        progress: called with pictures drawn and to draw.

    Raises:
        ScalexError: a direction does not fit the model, a scorer fails or gives no shares, or the spec has no such
            concept.
    """
    plan = doses or Doses()
    total = plan.pictures * len(cases)
    pusher = Pusher(
        job.at(plan.probe), plan, drawings or Drawings(), lambda done: progress(done, total) if progress else None
    )
    pusher.passed(0)
    tried = [(case, _try(pusher, case, readouts)) for case in cases]
    return _concluded(tried, plan, job.spec.rules)


def cases_of(
    job: Job,
    store: Store,
    attribute: str,
    values: Sequence[str] | None = None,
    *,
    concepts: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Case]:
    """A case for each concept: that its own steering vector takes it from the first value to the second.

    Args:
        store: of the variants' latents; what it lacks is captured, on the job's first 16 seeds.
        attribute, values: of the spec, and the two to go between; may be left out where it has but two.
        concepts: of the spec; None is all. progress: called with samples captured and to do.

    Raises:
        ScalexError: as there.
    """
    pair, some = pair_of(job, attribute, values), job.seeds[:_LEARNED]
    found = steering_vectors(job, store, attribute, pair, concepts=concepts, seeds=some, progress=progress)
    return [Case(concept, attribute, pair, vector.direction) for concept, vector in found.items()]


# ---------------------------------------------------------------------------------------------------- one case


def _try(pusher: Pusher, case: Case, readouts: Readouts) -> Tried | None:
    """Pushes along one case's directions; None where nothing reads the target."""
    job, doses = pusher.job, pusher.doses
    attributes = {name: tuple(values) for name, values in job.spec.attribute_values.items()}
    readers = readers_of(case, attributes, readouts)
    if readers is None:
        pusher.passed(doses.pictures)
        return None
    texts = _texts(job, case, doses.start, doses.templates)
    bare = pusher.pictures(case.direction, texts, 0.0)
    own = pusher.push(case, texts, doses.alphas, readers, bare, _SHOWN)
    ends = tuple(sorted({*doses.ends, 0.0}))
    made = controls(case.direction, doses.controls, job.model.probe_shape, job.spec.rules.seed)
    target = Readers(readers.target, {})
    others = tuple((kind, pusher.push(replace(case, direction=one), texts, ends, target, bare)) for kind, one in made)
    explicit = [_texts(job, case, value, doses.templates) for value in case.values] if doses.calibrate else []
    return Tried(own, others, readers, pusher.known(case, explicit, readers) if explicit else None)


def _texts(job: Job, case: Case, value: str, templates: int) -> list[str]:
    """The prompts that spell out a value, or the neutral ones where it is empty, one a template."""
    attribute = case.attribute if value else ""
    prompts = [p for p in build_prompts(job.spec) if p.concept == case.concept and p.attribute == attribute]
    texts = [p.text for p in prompts if p.value == value]
    if not texts:
        known = list(dict.fromkeys(p.concept for p in build_prompts(job.spec)))
        if case.concept in known:
            wrong = f"the spec has no value {value!r} of {case.attribute!r} to start from"
            raise ScalexError(wrong, f"Values: {', '.join(case.values)}")
        raise ScalexError(f"the spec has no concept {case.concept!r}", did_you_mean(case.concept, known, "Concepts"))
    return texts[:templates]


# ---------------------------------------------------------------------------------------------------- findings


def _concluded(tried: Sequence[tuple[Case, Tried | None]], doses: Doses, rules: Rules) -> DoseResponse:
    """Findings over all cases, with q, and tables."""
    evidence = [_evidence(found, doses, rules) if found else None for _, found in tried]
    p = np.array([one.effect.p if one else math.nan for one in evidence], dtype=np.float64)
    known = [replace(one, q=float(q)) if one else None for one, q in zip(evidence, stats.benjamini_hochberg(p))]
    findings = [_finding(case, found, one, doses, rules) for (case, found), one in zip(tried, known)]
    frame = pd.DataFrame([asdict(f) for f in findings], columns=list(Finding.columns()))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    for (case, found), one in zip(tried, known):
        if found is None or one is None:
            continue
        of = {"concept": case.concept, "attribute": case.attribute, "first": case.values[0], "second": case.values[1]}
        rows["curves"] += [of | row for row in curve_rows(found, rules)]
        rows["calibration"] += [of | row for row in calibration_rows(found, one.effect, doses, rules)]
        rows["drifts"] += [of | d._asdict() for d in one.drifts]
        rows["controls"] += [of | {"kind": k, "slope": s} for k, some in one.controls.items() for s in some]
        rows["strips"] += [of | row for row in strip_rows(found.own, doses)]
    columns = ["concept", "attribute", "first", "second"]
    tables = {name: pd.DataFrame(r) if r else pd.DataFrame(columns=columns) for name, r in rows.items()}
    if not doses.calibrate:
        del tables["calibration"]
    return DoseResponse(frame, tables)


def _evidence(found: Tried, doses: Doses, rules: Rules) -> Evidence:
    """Without q."""
    own, at = found.own, sorted({*doses.ends, 0.0})
    rows = [found.own.alphas.index(alpha) for alpha in at]
    by_kind: dict[str, list[float]] = {}
    for kind, one in found.others:
        by_kind.setdefault(kind, []).append(float(slopes(one.alphas, one.target).mean()))
    return Evidence(
        effect(own.alphas, own.target, rules),
        math.nan,
        trend(own.alphas, own.target, rules),
        float(slopes(at, own.target[rows]).mean()),
        by_kind,
        [drift(what, own.alphas, curve, doses.ends, rules) for what, curve in own.others.items()],
    )


def _finding(case: Case, found: Tried | None, evidence: Evidence | None, doses: Doses, rules: Rules) -> Finding:
    names, nan = (case.concept, case.attribute, case.values[1]), math.nan
    row = Finding(NAME, "picture", *names, nan, _UNIT, nan, nan, nan, nan, nan, "", "", doses.seeds, doses.templates)
    if found is None or evidence is None:
        return replace(row, verdict="not expressed", reason="no readout tells the variants' pictures apart")
    e, said, scorer = evidence.effect, verdict(evidence, rules), found.readers.target
    start = f"from prompts of {doses.start}" if doses.start else ""
    place = f"pushed at {doses.probe}" if doses.probe else ""
    notes = (said.reason, f"by the {scorer.name}", corrected_slope(found.known, e, rules), start, place)
    reason = "; ".join(filter(None, (*notes, stats.template_note(doses.templates))))
    apart = float(getattr(scorer, "separability", nan))
    row = replace(row, separability=apart, verdict=said.text, reason=reason, p=e.p, q=evidence.q)
    row = replace(row, estimate=e.slope, low=e.low, high=e.high, off_target=evidence.off_target)
    return replace(row, causal_slope=e.slope, causal_low=e.low, causal_high=e.high)


# ---------------------------------------------------------------------------------------------------- a run


def validate(
    run: str | Path,
    *,
    attributes: Sequence[str] = (),
    concepts: Sequence[str] = (),
    most: int = 12,
    doses: Doses | None = None,
    scorer: str | Readouts = "picture",
    store: str | Path | None = None,
    device: str | None = None,
    capturing: Progress | None = None,
    pushing: Progress | None = None,
) -> DoseResponse:
    """Tries the strongest findings of a run and adds causal evidence to their rows, to its tables and to its report.

    Leaves `validation/dose_response/` and `doses.json` in the run's folder; findings that were tried carry
    `causal_slope`, `causal_low`, `causal_high` and `off_target` from then on. Pictures that are in `drawings.sqlite`
    there are not drawn again, whoever reads them (see `scalex.drawings`).

    Args:
        attributes, concepts: only these; concepts that are named are tried whether they lean or not. most: findings.
        scorer: what reads pushed pictures: "picture" (the run's own reading), "exact" (of an organism), "clip:FOLDER",
            "classifier:FOLDER", "package.module:function", or scorers by concept, attribute and values.
        store: of the run's latents, where it is not any more where the run found it. device: where the model runs.
        capturing: called with samples captured and to do, for directions. pushing: with pictures drawn and to draw.

    Raises:
        ScalexError: the folder holds no analysed run, its model is not there any more, or it has no attribute to try.
    """
    result = open_run(run)
    place = str(runs.store_of(result.folder, store) if store else runs.kept_store(result.folder, result.manifest))
    job = prepare(spec=result.manifest["spec"], device=device, precision=result.manifest.get("dtype"))
    _check_same(job, result.manifest, result.folder)
    claims = claims_of(result.findings, job, attributes, concepts, most)
    pushed = job.at(doses.probe if doses else None)
    with resumable("what was captured and drawn is kept"):
        kept = replace(result, manifest={**result.manifest, "store": place})
        readouts = _readouts(scorer, job, kept, doses or Doses(), attributes)
        cases = [
            case
            for attribute, values, some in claims
            for case in cases_of(pushed, Store.open(place), attribute, values, concepts=some, progress=capturing)
        ]
        drawings = Drawings.open(result.folder)
        done = dose_response(job, cases, readouts, doses, drawings=drawings, progress=pushing)
    return _written(replace(done, folder=result.folder), result.manifest)


def _readouts(scorer: str | Readouts, job: Job, run: Audit, doses: Doses, attributes: Sequence[str]) -> Readouts:
    """The scorers that were asked for; the picture reading is learned from the run, without seeds that are drawn."""
    if not isinstance(scorer, str):
        return scorer

    def latents() -> Latents:
        if "picture" not in run.manifest["recipes"] or job.spec.moments:
            wrong = f"the run {run.folder} has no picture reading of single seeds to read pushed pictures with"
            way_out = "Audit with `readings: [text, picture]` and without moments, or name another scorer"
            raise ScalexError(wrong, way_out)
        return latents_of(run)["picture"]

    drawn = (*doses.numbers, *doses.calibration)
    return named_readouts(scorer, job, latents, without=drawn, attributes=attributes)


def _check_same(job: Job, manifest: Mapping[str, Any], place: Path) -> None:
    for reading, name in manifest["recipes"].items():
        if job.plan.recipes(job.model)[reading].id != name:
            wrong = f"the model of the run {place} is not any more the one that was captured"
            raise ScalexError(wrong, "Put it back, or audit again")


def _written(done: DoseResponse, manifest: Mapping[str, Any]) -> DoseResponse:
    """Leaves it beside the run's own findings, whose rows get the evidence, and renders the report again."""
    assert done.folder is not None
    place = runs.validation_folder(done.folder, NAME)
    with disk_errors(place, option="--out"):
        write_tables(done.findings, place)
        runs.save_tables(place, {f"{NAME}-picture-{name}": table for name, table in done.tables.items()})
        runs.stamp_validation(place, manifest)
        write_atomic(done.folder / "doses.json", done.text + "\n")
        beside = [tried for tried, _ in runs.load_validations(done.folder, manifest)]
        write_tables(runs.with_evidence(runs.read_findings(done.folder), beside), done.folder)
    render_report(done.folder)
    return done
