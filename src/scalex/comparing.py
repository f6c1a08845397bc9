"""Two models, or two runs, against each other: which findings moved, and a report of it.

What both runs asked is compared: the same concepts, templates, attributes and readings. Where they share seeds, these
name the same noise in both, and the models are compared seed by seed (see `differences`). What other analyses found in
both is compared, too (see `matching`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scalex import auditing, runs, stats
from scalex.auditing import Audit
from scalex.capture import Progress
from scalex.differences import MOVED, compare_latents
from scalex.disk import disk_errors
from scalex.errors import ScalexError
from scalex.matching import Held, compare_findings
from scalex.organisms import EMBEDDED_SPEC
from scalex.prompts import AuditSpec, load_spec
from scalex.records import READINGS, Finding, Latents, LeanDirection, Prompt, Reading
from scalex.report import views, write_tables
from scalex.report.comparison import headline, render_comparison, told

__all__ = ["EMBEDDED_NAME", "Comparison", "compare"]

EMBEDDED_NAME = "embedded"
"""Names the organism that ships with the package, in place of a folder or hub id."""

_SIDES = ("A", "B")
_AS_READ = ("sampler", "steps", "guidance", "level", "pooling", "dtype")  # of manifests; these should be the same
_TOLD = ("model", "unet", "lora", "model_fingerprint", *_AS_READ, "seeds", "first_seed", "date")


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of a comparison.

    Attributes:
        findings: one row a difference, B less A; columns as in `scalex.records.Finding`. The analysis is "compare" for
            leans, weights and shares, and for all else "compare NAME", such as "compare descriptors".
        sides: for each of these rows what either model has, columns `first` and `second`, and `margin`, inside of which
            a change counts as none (NaN where there is none).
        manifest: what was compared, and how. folder: where it was written.
    """

    findings: pd.DataFrame
    sides: pd.DataFrame
    manifest: Mapping[str, Any]
    folder: Path

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def moved(self) -> pd.DataFrame:
        """The findings that moved."""
        return self.findings[self.findings.verdict.str.startswith(MOVED)]

    def __repr__(self) -> str:
        """The headline, how much was compared, and where it lies."""
        return f"<Comparison: {self.headline}; {len(self.findings):,} differences in {self.folder}>"

    @property
    def headline(self) -> str:
        """The comparison in one sentence."""
        return headline(self.findings)

    @property
    def moves(self) -> list[tuple[str, str, str, str]]:
        """What moved, in words: verdict, concept, attribute, and the numbers."""
        rows = views.records(self.moved.join(self.sides))
        return [(row["verdict"], row["target"], row["attribute"], told(row)) for row in rows]


def compare(
    first: str | Path,
    second: str | Path,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    *,
    out: str | Path = "runs/compare",
    store: str | Path | None = None,
    lora: str | None = None,
    device: str | None = None,
    workers: int | None = None,
    engine: str | None = None,
    address: str | None = None,
    progress: Sequence[Progress | None] = (None, None),
    drawing: Sequence[Progress | None] = (None, None),
    **overrides: Any,
) -> Comparison:
    """Compares two models, or two runs, and writes findings, manifest and report into `out`.

    Args:
        first, second: each the folder of a run (it is used as it is), a model's folder or hub id, or `embedded`. Models
            are audited into `out/a` and `out/b`.
        spec: what to ask of models. Absent: what the other one, a run, was asked; else as in `audit`.
        store: of the latents of both; by default `store` in `out`.
        lora: LoRA weights for the second model alone: the same model twice then shows what the LoRA moves.
        device, workers, engine, address, progress, drawing: of the audit of each, as in `audit`.
        overrides: keys of the spec (`seeds=64`), and `batch`, `compile` and `offload` as in `audit`, for models.

    Raises:
        ScalexError: as `audit`; both are runs, and a spec or keys of one are given; or the two have nothing in common
            that could be compared.
    """
    names = (str(first), str(second))
    if lora and _is_run(names[1]):
        raise ScalexError(f"{second} is a run: no LoRA can be fused into it any more", "Name its model")
    if all(map(_is_run, names)):
        _check_unasked({"spec": spec, **overrides})
    folder = runs.make_folder(out)
    asked = spec if spec is not None else _asked_of(names)
    own: tuple[dict[str, Any], ...] = (overrides, overrides | ({"lora": lora} if lora else {}))
    latents = runs.store_of(folder, store)
    crew = {"device": device, "workers": workers, "engine": engine, "address": address}
    audits = [
        _audited(name, asked, folder / "ab"[i], latents, own[i] | crew, progress[i], drawing[i])
        for i, name in enumerate(names)
    ]
    return _compared(audits[0], audits[1], folder)


def _is_run(name: str) -> bool:
    return (Path(name) / "manifest.json").is_file()


def _check_unasked(asked: Mapping[str, Any]) -> None:
    """Raises where something is asked of two runs, which are there already."""
    told = [key for key, value in asked.items() if value is not None and key not in ("batch", "compile", "offload")]
    if told:
        raise ScalexError(
            f"both are runs, which are used as they are: `{told[0]}` says nothing to them",
            "Leave it out, or name a model in place of a run",
        )


def _asked_of(names: Sequence[str]) -> Any:
    """What is to be asked where no spec says so: what the run among the two was asked, of any model."""
    of_model = ("model", "unet", "lora", "scheduler")
    for name in filter(_is_run, names):
        asked = runs.read_manifest(name)[1]["spec"]
        return {key: value for key, value in asked.items() if key not in of_model}
    return EMBEDDED_SPEC if EMBEDDED_NAME in names else None


def _audited(
    name: str,
    spec: Any,
    out: Path,
    store: str,
    told: Mapping[str, Any],
    progress: Progress | None,
    drawing: Progress | None,
) -> Audit:
    """The run that is named, or an audit of the model that is named."""
    if _is_run(name):
        place, manifest = runs.read_manifest(name)
        return Audit(pd.DataFrame(), manifest, place)
    model = None if name == EMBEDDED_NAME else name
    return auditing.audit(model, spec, out=out, store=store, progress=progress, drawing=drawing, **told)


def _compared(first: Audit, second: Audit, folder: Path) -> Comparison:
    """Both runs compared, and everything written."""
    specs = [load_spec(run.manifest["spec"]) for run in (first, second)]
    latents = [auditing.latents_of(run) for run in (first, second)]
    readings = [r for r in READINGS if r in latents[0] and r in latents[1]]
    if not readings:
        raise ScalexError("the two runs have no reading in common", "Audit both with the same --spec")
    _check_blocks(*(x[readings[0]].block for x in latents))
    common = _common(specs, [x[readings[0]].prompts for x in latents])
    pairs = {r: _alike(latents[0][r], latents[1][r], common) for r in readings}
    rules = specs[0].rules
    found, sides = compare_latents(*_by_side(pairs), common.attributes, rules)
    held = [_held(run, x, own) for run, x, own in zip((first, second), latents, _by_side(pairs))]
    others = compare_findings(held[0], held[1], common.attributes, rules, common.holds)
    frame = pd.DataFrame([asdict(f) for f in (*found, *others.findings)], columns=list(Finding.columns()))
    sides = pd.concat([sides, others.sides], ignore_index=True)
    manifest = _manifest(first, second, pairs[readings[0]], common) | {"rules": asdict(rules)}
    manifest["notes"] += [*_along_otherwise(*(spec.lean_direction for spec in specs)), *others.notes]
    with disk_errors(folder, option="--out"):
        write_tables(frame, folder)
        runs.save_tables(folder, {"compare-both-sides": sides})
    runs.save_manifest(folder, manifest)
    result = Comparison(frame, sides, manifest, folder)
    pictures = [runs.load_pictures(run.folder, run.manifest.get("pictures", {})) for run in (first, second)]
    render_comparison(frame, sides, manifest, (pictures[0], pictures[1]), result.report)
    return result


def _check_blocks(first: int, second: int) -> None:
    """Raises where the two runs keep seeds otherwise: a seed of the one then is not the seed of the other."""
    if first != second:
        kept = [f"moments of {size} seeds" if size > 1 else "single samples" for size in (first, second)]
        raise ScalexError(f"run A keeps {kept[0]}, run B {kept[1]}", "Audit one of them again, with `moments` alike")


def _by_side(pairs: Mapping[Reading, tuple[Latents, Latents]]) -> tuple[dict[Reading, Latents], dict[Reading, Latents]]:
    return {r: a for r, (a, _) in pairs.items()}, {r: b for r, (_, b) in pairs.items()}


def _held(run: Audit, latents: Mapping[Reading, Latents], shared: Mapping[Reading, Latents]) -> Held:
    """What a run found, which is nothing where it was not analysed."""
    try:
        findings = runs.read_findings(run.folder)
    except ScalexError:
        findings = pd.DataFrame(columns=list(Finding.columns()))
    return Held(findings, runs.load_tables(run.folder), next(iter(latents.values())).prompts, shared)


def _manifest(first: Audit, second: Audit, pair: tuple[Latents, Latents], common: _Common) -> dict[str, Any]:
    told = [{k: run.manifest.get(k) for k in _TOLD} | {"run": str(run.folder)} for run in (first, second)]
    names = [_called(side) for side in told]
    paired = pair[0].seeds == pair[1].seeds
    return {
        "model": " against ".join(names),
        "names": names,
        "first": told[0],
        "second": told[1],
        "paired": paired,
        "seeds": [len(side.seeds) for side in pair],
        "concepts": list(pair[0].concepts),
        "templates": list(common.templates),
        "attributes": common.attributes,
        "notes": [*common.notes, *_read_otherwise(first.manifest, second.manifest, paired)],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": runs.command_line("scalex.compare(...)"),
        "versions": first.manifest.get("versions"),
    }


def _called(side: Mapping[str, Any]) -> str:
    """A model as people say it, with what was put into it."""
    parts = [Path(str(side[key])).name for key in ("unet", "lora") if side.get(key)]
    return " + ".join([str(side["model"]), *parts])


# ---------------------------------------------------------------------------------------------------- in common


class _Common(NamedTuple):
    """What two runs asked in the same words, in A's order; and what only one was asked, a sentence each.

    `apart` are the templates of one alone. (Words that are said whole have one of their own, in both.)
    """

    concepts: tuple[str, ...]
    templates: tuple[str, ...]
    apart: frozenset[str]
    attributes: dict[str, tuple[str, ...]]
    notes: list[str]

    def holds(self, prompt: Prompt) -> bool:
        """Whether a prompt belongs to it, or would if both had asked it: references and words, too."""
        asked = prompt.role not in ("concept", "wording") or prompt.concept in self.concepts
        return asked and prompt.template not in self.apart and prompt.attribute in ("", *self.attributes)


def _common(specs: Sequence[AuditSpec], prompts: Sequence[Sequence[Prompt]]) -> _Common:
    """What both runs asked.

    Raises:
        ScalexError: nothing of one kind.
    """
    notes: list[str] = []
    first, second = specs
    worded = [[(name, tuple(values.items())) for name, values in spec.attributes.items()] for spec in specs]
    templates = _shared("template", first.templates, second.templates, notes)
    attributes = [name for name, _ in _shared("attribute", worded[0], worded[1], notes)]
    said = [_said(ps, templates, attributes) for ps in prompts]
    concepts = [name for name, _ in _shared("concept", list(said[0].items()), list(said[1].items()), notes)]
    apart = frozenset(first.templates) ^ frozenset(second.templates)
    return _Common(
        tuple(concepts), templates, apart, {name: first.attribute_values[name] for name in attributes}, notes
    )


def _said(
    prompts: Sequence[Prompt], templates: Sequence[str], attributes: Sequence[str]
) -> dict[str, frozenset[Prompt]]:
    """By concept all that was said of it in these templates and attributes."""
    said: dict[str, set[Prompt]] = {}
    for p in prompts:
        if p.role == "concept" and p.template in templates and p.attribute in ("", *attributes):
            said.setdefault(p.concept, set()).add(p)
    return {concept: frozenset(held) for concept, held in said.items()}


def _shared(what: str, first: Sequence[Any], second: Sequence[Any], notes: list[str]) -> tuple[Any, ...]:
    """What is in both, in A's order; a note of what is in one alone. Things are texts, or (name, how it is said)."""
    held = tuple(x for x in first if x in second)
    if not held:
        raise ScalexError(f"the two runs have no {what} in common", "Audit both with the same --spec")
    for side, things in zip(_SIDES, (first, second)):
        alone = [thing if isinstance(thing, str) else str(thing[0]) for thing in things if thing not in held]
        if alone:
            rest = f" and {len(alone) - 6} more" if len(alone) > 6 else ""
            names = f"{what}{'s' * (len(alone) > 1)} {', '.join(map(repr, alone[:6]))}{rest}"
            notes.append(f"Only {side} was asked with the {names}, so that is not compared.")
    return held


def _aligned(latents: Latents, keep: Sequence[Prompt], seeds: Sequence[int]) -> Latents:
    """The latents of these prompts and seeds, in this order."""
    rows, columns = {p: i for i, p in enumerate(latents.prompts)}, {s: i for i, s in enumerate(latents.seeds)}
    places = [rows[p] for p in keep]
    texts = None if latents.embeddings is None else latents.embeddings[places]
    values = latents.values[np.ix_(places, [columns[s] for s in seeds])]
    return replace(latents, values=values, prompts=tuple(keep), seeds=tuple(seeds), embeddings=texts)


def _alike(first: Latents, second: Latents, common: _Common) -> tuple[Latents, Latents]:
    """Both with the same prompts in the same order, and with the seeds that they share. Where these are too few to pair
    them, with their own, of which none is shared."""
    known = set(second.prompts)
    keep = [p for p in first.prompts if p in known and common.holds(p)]
    both = [s for s in first.seeds if s in second.seeds]
    least = max(stats.MIN_SEEDS, min(len(first.seeds), len(second.seeds)) / 2)
    others = [s for s in second.seeds if s not in both]
    seeds = (both, both) if len(both) >= least else (first.seeds, others)
    return _aligned(first, keep, seeds[0]), _aligned(second, keep, seeds[1])


def _read_otherwise(first: Mapping[str, Any], second: Mapping[str, Any], paired: bool) -> Iterator[str]:
    """How the two were read otherwise: that, too, may be why a finding moved."""
    if not paired:
        yield "The two share few seeds or none: they were compared as independent. Shared seeds would show more."
    apart = [f"{k} {first.get(k)} against {second.get(k)}" for k in _AS_READ if first.get(k) != second.get(k)]
    if apart:
        yield f"The two were not read alike, and what moved may be owed to that: {', '.join(apart)}."


def _along_otherwise(first: LeanDirection, second: LeanDirection) -> Iterator[str]:
    """That leans were measured along another direction in either run."""
    if first != second:
        told = f"Leans were measured along `{first}` in A and along `{second}` in B (`lean_direction`)."
        yield f"{told} Here both are measured along `{first}`, so that those of B may differ from its own report's."
