"""The whole way from prompts to findings: prepare, capture, analyse, picture, report.

A run leaves a folder that each later step can be repeated from (see `runs`). The captured latents lie in a store, which
many runs may share.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, UInt8

from scalex import analyses, runs, sequential
from scalex import engine as engines
from scalex.capture import Progress, generate
from scalex.disk import disk_errors
from scalex.engine import Filled
from scalex.errors import ScalexError, resumable
from scalex.jobs import Job, analyses_of, flops_of, notes_of, prepare, to_draw
from scalex.organisms import EMBEDDED_UNET
from scalex.prompts import AuditSpec, build_prompts, load_spec, prompts_hash
from scalex.records import VARIED, Finding, Latents, Prompt, Reading, Recipe
from scalex.report import Layout, lean_chart, rates_chart, render, summary, write_tables
from scalex.store import Store

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "Audit",
    "analyze",
    "audit",
    "capture_run",
    "capture_shard",
    "draw_pictures",
    "latents_of",
    "open_run",
    "render_report",
    "stored_of",
]

_PICTURES, _FEWEST = 8, 2  # of each concept, in the report: where concepts are few, and where they are many
_IN_ALL = 1_000  # pictures, as long as each concept has the fewest
_TEXTS = 64  # embedded together


@dataclass(frozen=True, repr=False)
class Audit:
    """The result of an audit.

    Attributes:
        findings: one row a finding; columns as in `scalex.records.Finding`.
        manifest: everything needed to run it again, and what it cost.
        folder: where it was written.
    """

    findings: pd.DataFrame
    manifest: Mapping[str, Any]
    folder: Path

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def summary(self) -> str:
        """What was found, in a few lines: how many concepts lean on what, which lean furthest, and what stays open."""
        spec = load_spec(self.manifest["spec"])
        return "\n".join(summary(self.findings, spec.margin, spec.attribute_values))

    def __repr__(self) -> str:
        """The headline, how much was found, and where it lies."""
        told = "no findings" if self.findings.empty else self.summary.partition("\n")[0].rstrip(".")
        return f"<Audit of {self.manifest['model']}: {told}; {len(self.findings):,} findings in {self.folder}>"

    def leans(self, attribute: str, reading: Reading = "picture") -> alt.Chart:
        """Leans of all concepts with intervals, as an Altair chart."""
        chart: alt.Chart = lean_chart(self.findings, attribute, reading=reading, **self._look)
        return chart

    def rates(self, attribute: str) -> alt.Chart:
        """Shares of pictures by value with intervals, as an Altair chart."""
        chart: alt.Chart = rates_chart(self.findings, attribute, **self._look)
        return chart

    @property
    def _look(self) -> dict[str, Any]:
        spec = load_spec(self.manifest["spec"])
        return {"margin": spec.margin, "layout": Layout(spec=spec.attribute_values)}


def audit(
    model: str | Path | None = None,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    *,
    out: str | Path = "runs/audit",
    store: str | Path | None = None,
    device: str | None = None,
    batch: int | None = None,
    compile: bool = False,
    offload: bool | None = None,
    workers: int | None = None,
    engine: str | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    drawing: Progress | None = None,
    **overrides: Any,
) -> Audit:
    """Audits a model: captures what the store lacks, analyses, and writes the run's folder.

    Args:
        model: folder or hub id in diffusers' form; None is what the spec names, or else the embedded organism.
        spec: a path, a mapping or an `AuditSpec`; None is the default one.
        out: folder of the run. store: of the latents; by default `store` in the run's folder.
        device, batch, compile, offload: where and how the model runs, as for `scalex.prepare`.
        workers: processes that capture side by side, in turn on the devices of that kind, or on shares of the CPU's
            cores; None captures in this process.
        engine, address: what captures, if not as `workers` says, and the address of its cluster; as for
            `scalex.engine.engine`.
        progress: called with samples done and to do. drawing: with pictures done and to do.
        overrides: keys of the spec that replace its own (`seeds=64`).

    Raises:
        ScalexError: anything that the user can mend, in one line.
    """
    began = time.perf_counter()
    job = prepare(model, spec, device=device, batch=batch, compile=compile, offload=offload, **overrides)
    folder, manifest = capture_run(job, out, store, progress, workers, engine, address)
    manifest = draw_pictures(job, folder, manifest, drawing)
    with resumable("all samples were captured and are kept"):
        runs.save_manifest(folder, manifest | {"seconds": round(time.perf_counter() - began, 1)})
        result = analyze(folder)
        render_report(folder)
    return result


def capture_run(
    job: Job,
    out: str | Path,
    store: str | Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: str | None = None,
    address: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Captures what the store lacks of the job, and leaves a run that can be analysed. Returns its folder and manifest.

    Raises:
        ScalexError: interrupted (what was captured is kept), or the folder or the store cannot be written.
    """
    began = time.perf_counter()
    folder = runs.make_folder(out)
    place = runs.store_of(folder, store)
    names, opened = analyses_of(job.spec), Store.open(place)
    with engines.engine(workers, engine, address) as fill:
        filled, looks = sequential.capture_looks(
            job.spec, names, opened, job.model, job.prompts, job.plan, progress, fill
        )
    if analyses.embeds(names):
        runs.save_embeddings(folder, _embeddings(job), prompts_hash(job.prompts))
    manifest = _manifest(job, filled) | {"store": runs.store_address(folder, place)}
    manifest["pictures"] = _kept_pictures(folder, manifest)
    if looks:
        manifest["looks"] = [{"seeds": look.seeds, "concepts": list(look.concepts)} for look in looks]
        manifest["notes"] += sequential.note(job.spec, looks)
    manifest["seconds"] = round(time.perf_counter() - began, 1)
    runs.save_manifest(folder, manifest)
    return folder, manifest


def capture_shard(
    job: Job,
    shard: tuple[int, int],
    out: str | Path,
    store: str | Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: str | None = None,
    address: str | None = None,
) -> Filled:
    """Captures one of n parts of a job into a store that all parts share: the same job is then audited there, with
    nothing left to capture. No run is left, since it would be no whole one.

    Args:
        shard: (i, n), i from 1. Texts are dealt to the parts in turn, so that each gets as many. Of a job that adds
            seeds to undecided concepts, the parts capture those of the first look.

    Raises:
        ScalexError: there is no such part, or as `capture_run`.
    """
    i, n = shard
    if not 1 <= i <= n:
        raise ScalexError(f"there is no shard {i} of {n}", f"Shards are 1/{max(n, 1)} to {max(n, 1)}/{max(n, 1)}")
    opened = Store.open(runs.store_of(Path(out), store))
    texts = set(list(dict.fromkeys(p.text for p in job.prompts))[i - 1 :: n])
    with engines.engine(workers, engine, address) as fill:
        part = [p for p in job.prompts if p.text in texts]
        return fill(opened, job.model, part, job.seeds, job.plan, progress)


def draw_pictures(job: Job, folder: Path, manifest: dict[str, Any], drawing: Progress | None = None) -> dict[str, Any]:
    """Draws a few pictures of each concept for the report of a captured run, unless they are there. Returns the
    manifest that names them.

    Raises:
        ScalexError: interrupted, or the folder cannot be written.
    """
    began = time.perf_counter()
    with resumable("all samples were captured and are kept"):
        files = manifest["pictures"] or runs.save_pictures(_draw(job, drawing or (lambda *_: None)), folder)
    spent = round(manifest["seconds"] + time.perf_counter() - began, 1)
    drawn = {**manifest, "pictures": files, "seconds": spent}
    runs.save_manifest(folder, drawn)
    return drawn


def _embeddings(job: Job) -> Float32[np.ndarray, "prompts dim"]:
    """What the text encoder makes of each prompt."""
    texts = list(dict.fromkeys(p.text for p in job.prompts))
    parts = [job.model.embed(texts[i : i + _TEXTS], job.spec.truncate) for i in range(0, len(texts), _TEXTS)]
    rows = {text: i for i, text in enumerate(texts)}
    embedded = torch.cat(parts).cpu().numpy()
    return np.asarray(embedded[[rows[p.text] for p in job.prompts]], dtype=np.float32)


def analyze(
    run: str | Path, names: Sequence[str] | Literal["all"] | None = None, *, store: str | Path | None = None
) -> Audit:
    """Analyses stored latents again, without the model, and writes the findings tables.

    Args:
        run: folder of a run. names: the analyses, by default those of its spec; "all" are those whose prompts the run
            captured. store: of the latents, where it is not any more where the run found it.

    Raises:
        ScalexError: the folder holds no run, or its latents are gone.
    """
    folder, manifest = runs.read_manifest(run)
    spec = load_spec(manifest["spec"])
    chosen = _chosen(names, spec, manifest, folder)
    read = partial(_latents, spec, manifest, folder, str(store or runs.kept_store(folder, manifest)))
    if looks := manifest.get("looks"):
        found, tables = sequential.replay(spec, chosen, looks, read(), read)
    else:
        found, tables = analyses.explore(chosen, read(), spec.attribute_values, spec.rules)
    frame = pd.DataFrame([asdict(f) for f in found], columns=list(Finding.columns()))
    frame = runs.with_evidence(frame, [tried for tried, _ in runs.load_validations(folder, manifest)])
    with disk_errors(folder, option="--out"):
        write_tables(frame, folder)
        runs.save_tables(folder, tables)
    return Audit(frame, manifest, folder)


def _chosen(
    names: Sequence[str] | Literal["all"] | None, spec: AuditSpec, manifest: Mapping[str, Any], folder: Path
) -> Sequence[str]:
    """The analyses that are asked for; of "all", those whose prompts, and embeddings of texts, the run captured.

    Raises:
        ScalexError: one takes prompts that the spec has and the run did not capture.
    """
    prompts = _prompts_of(spec, manifest)
    captured = set(prompts)
    if names == "all":
        known = analyses_of(spec.model_copy(update={"analyses": "all"}))
        embedded = runs.load_embeddings(folder, prompts_hash(prompts)) is not None
        return [n for n in known if (embedded or not analyses.embeds([n])) and not _absent(n, spec, captured)]
    chosen = names or analyses_of(spec)
    for name in chosen:
        if absent := _absent(name, spec, captured):
            raise ScalexError(
                f"analysis {name!r} takes prompts that this run did not capture ({', '.join(absent)})",
                f"Add {name} to `analyses` and audit again: what was captured is kept",
            )
    return chosen


def _absent(name: str, spec: AuditSpec, captured: Set[Prompt]) -> list[str]:
    """The roles of prompts that an analysis takes and that were not captured."""
    roles = {p.role for p in captured}
    taken = build_prompts(spec, analyses.roles([name]), analyses.variants([name]))
    lacking = (p.role for p in taken if p not in captured)
    return list(dict.fromkeys(f"variants of a {role}" if role in roles else role for role in lacking))


def render_report(run: str | Path) -> Path:
    """Renders the report of a run again from its findings, manifest and pictures, and says where it is.

    Args:
        run: folder of an analysed run.

    Raises:
        ScalexError: the folder holds no analysed run.
    """
    result = open_run(run)
    pictures = runs.load_pictures(result.folder, result.manifest.get("pictures", {}))
    shown = {k: v for k, v in result.manifest.items() if k not in ("pictures", "store")}
    beside = runs.load_validations(result.folder, result.manifest)
    findings = pd.concat([result.findings, *(found for found, _ in beside)], ignore_index=True)
    tables = runs.load_tables(result.folder)
    for _, more in beside:
        tables |= more
    return render(findings, shown, pictures, result.report, tables)


def open_run(run: str | Path) -> Audit:
    """The result of an earlier run, without its model or its latents.

    Args:
        run: folder of an analysed run.

    Raises:
        ScalexError: the folder holds no analysed run.
    """
    folder, manifest = runs.read_manifest(run)
    return Audit(runs.read_findings(folder), manifest, folder)


def latents_of(run: Audit) -> dict[Reading, Latents]:
    """The stored latents behind a run, by reading.

    Raises:
        ScalexError: they are gone.
    """
    kept = runs.kept_store(run.folder, run.manifest)
    return _latents(load_spec(run.manifest["spec"]), run.manifest, run.folder, kept)


def stored_of(run: Audit) -> tuple[Store, dict[Reading, Recipe], tuple[Prompt, ...], range]:
    """Where the latents behind a run are: the store, their recipes by reading, the prompts and the seeds.

    Raises:
        ScalexError: they are gone.
    """
    spec, place = load_spec(run.manifest["spec"]), runs.kept_store(run.folder, run.manifest)
    store = Store.open(place, create=False)
    known = {stored.recipe.id: stored.recipe for stored in store.recipes()}
    if not known.keys() >= set(run.manifest["recipes"].values()):
        raise _gone(place)
    recipes: dict[Reading, Recipe] = {reading: known[name] for reading, name in run.manifest["recipes"].items()}
    return store, recipes, _prompts_of(spec, run.manifest), spec.seed_range


def _gone(place: str) -> ScalexError:
    return ScalexError(f"the store {place} has no latents of this run", "Name theirs with --store, or audit again")


def _prompts_of(spec: AuditSpec, manifest: Mapping[str, Any]) -> tuple[Prompt, ...]:
    """The prompts that a run captured. One from before there were roles, or a choice of variants, holds all of them."""
    return build_prompts(spec, manifest.get("roles", ("concept",)), manifest.get("variants", VARIED))


def _latents(
    spec: AuditSpec, manifest: Mapping[str, Any], folder: Path, place: str, look: sequential.Look | None = None
) -> dict[Reading, Latents]:
    """Those of all prompts at the first seeds; or of a later look, without embeddings."""
    store = Store.open(place, create=False)
    known: dict[str, Recipe] = {stored.recipe.id: stored.recipe for stored in store.recipes()}
    prompts, seeds = _prompts_of(spec, manifest), spec.seed_range
    embeddings = runs.load_embeddings(folder, prompts_hash(prompts))
    if look:
        (prompts, seeds), embeddings = sequential.of_look(spec, analyses_of(spec), prompts, look), None
    found: dict[Reading, Latents] = {}
    for reading, name in manifest["recipes"].items():
        if name not in known:
            raise _gone(place)
        found[reading] = replace(store.read(known[name], prompts, seeds), embeddings=embeddings)
    return found


def _kept_pictures(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The pictures that are there already, if they are those of the same prompts, seeds and recipe; else none."""
    try:
        earlier = runs.read_manifest(folder)[1]
    except ScalexError:
        return {}
    same = ("recipes", "prompts_hash", "first_seed")
    files: dict[str, str] = earlier.get("pictures") or {}
    kept = all(earlier.get(k) == manifest[k] for k in same) and earlier.get("seeds") == manifest["seeds"]
    return files if kept and all((folder / file).is_file() for file in files.values()) else {}


def _draw(job: Job, drawing: Progress) -> dict[str, UInt8[np.ndarray, "n height width 3"]]:
    """A few pictures of each concept's neutral prompt, from the trajectories that were read."""
    chosen, seeds = to_draw(job)
    drawn: dict[str, UInt8[np.ndarray, "n height width 3"]] = {}
    concepts, total, step = list(chosen), len(chosen) * len(seeds), max(1, _PICTURES // len(seeds))
    drawing(0, total)
    for some in (concepts[i : i + step] for i in range(0, len(concepts), step)):
        made = generate(job.model, [(chosen[concept], seed) for concept in some for seed in seeds], job.plan)
        drawn |= zip(some, made.reshape(len(some), len(seeds), *made.shape[1:]))
        drawing(len(drawn) * len(seeds), total)
    return drawn


def _manifest(job: Job, filled: Filled) -> dict[str, Any]:
    steps, names = job.plan.resolve(job.model), analyses_of(job.spec)
    recipe = next(iter(filled.recipes.values()))
    return {
        "model": _name(job.spec.model),
        "unet": job.spec.unet or (None if job.spec.model else EMBEDDED_UNET),
        "lora": job.spec.lora,
        "model_fingerprint": job.model.fingerprint,
        "sampler": recipe.sampler,
        "steps": job.plan.steps,
        "guidance": steps.guidance,
        "pooling": job.plan.pooling,
        "level": job.plan.level,
        "dtype": job.model.precision,
        "device": str(job.model.device),
        "seeds": len(job.seeds),
        "first_seed": job.spec.first_seed,
        "roles": list(analyses.roles(names)),
        "variants": list(analyses.variants(names)),
        "prompts_hash": prompts_hash(job.prompts),
        "n_prompts": len(job.prompts),
        "n_samples": filled.asked,
        "n_captured": filled.captured,
        "n_forwards": filled.full + filled.stopped,
        "flops_of_this_run": float(filled.flops(job.model)),
        "flops": float(flops_of(job, filled.asked, len({p.text for p in job.prompts}))),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": runs.command_line("scalex.audit(...)"),
        "versions": _versions(),
        "recipes": {reading: r.id for reading, r in filled.recipes.items()},
        "notes": notes_of(job),
        "spec": job.spec.to_dict(),
    }


def _name(model: str | None) -> str:
    """As people say it: of a local folder its last part; the whole path is in the spec."""
    if model is None:
        return "the embedded organism (emoji)"
    return Path(model).resolve().name if Path(model).is_dir() else model


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("scalex-diffusion", "torch", "diffusers", "transformers", "numpy", "scipy", "pylance"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
