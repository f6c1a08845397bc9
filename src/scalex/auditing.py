"""The whole way from prompts to findings: prepare, capture, analyse, picture, report.

A run leaves a folder that each later step can be repeated from: `manifest.json`, `findings.parquet`, `findings.json`,
`pictures/` and `report.html`. The captured latents lie in a store, which many runs may share.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from scalex import analyses
from scalex.capture import Plan, Progress, capture, generate
from scalex.disk import write_atomic
from scalex.engine import Filled, fill
from scalex.errors import ScalexError
from scalex.models import Model, load_model
from scalex.organisms import EMBEDDED, EMBEDDED_SPEC, EMBEDDED_UNET
from scalex.prompts import AuditSpec, build_prompts, load_spec, prompts_hash, resolve, samples
from scalex.records import Finding, Latents, Prompt, Reading, Recipe
from scalex.report import lean_chart, rates_chart, render, write_tables
from scalex.store import Store

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "Audit",
    "Job",
    "Outlook",
    "analyze",
    "audit",
    "capture_job",
    "latents_of",
    "open_run",
    "outlook",
    "prepare",
    "render_report",
]

_PICTURES = 8  # of each concept, in the report


@dataclass(frozen=True)
class Job:
    """An audit made ready: the spec with its concepts listed, the loaded model, the prompts and the plan."""

    spec: AuditSpec
    model: Model
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    plan: Plan

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Every (text, seed) once."""
        return samples(self.prompts, self.seeds)


@dataclass(frozen=True)
class Outlook:
    """What a job will take: samples, denoiser forwards, FLOPs, bytes on disk and seconds on this device."""

    samples: int
    texts: int
    flops: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
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

    def leans(self, attribute: str, reading: Reading = "picture") -> alt.Chart:
        """Leans of all concepts with intervals, as an Altair chart."""
        chart: alt.Chart = lean_chart(self.findings, attribute, reading=reading)
        return chart

    def rates(self, attribute: str) -> alt.Chart:
        """Shares of pictures by value with intervals, as an Altair chart."""
        chart: alt.Chart = rates_chart(self.findings, attribute)
        return chart


def audit(
    model: str | Path | None = None,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    *,
    out: str | Path = "runs/audit",
    store: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> Audit:
    """Audits a model: captures what the store lacks, analyses, and writes the run's folder.

    Args:
        model: folder or hub id in diffusers' form; None is what the spec names, or else the embedded organism.
        spec: a path, a mapping or an `AuditSpec`; None is the default one.
        out: folder of the run. store: of the latents; by default `store` in the run's folder.
        device: "cpu", "cuda", ...; None is the best there is.
        progress: called with samples done and to do.
        overrides: keys of the spec that replace its own (`seeds=64`).

    Raises:
        ScalexError: anything that the user can mend, in one line.
    """
    began = time.perf_counter()
    job = prepare(model, spec, device=device, **overrides)
    folder = _run_folder(out)
    filled = capture_job(job, folder, store, progress)
    pictures = _draw(job)
    manifest = _manifest(job, filled, folder, store)
    manifest["pictures"] = _save_pictures(pictures, folder)
    _save_manifest(manifest | {"seconds": round(time.perf_counter() - began, 1)}, folder)
    result = analyze(folder)
    render_report(folder)
    return result


def prepare(
    model: str | Path | None = None,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    *,
    device: str | None = None,
    **overrides: Any,
) -> Job:
    """Reads the spec, loads the model and builds the prompts. Arguments as for `audit`.

    Raises:
        ScalexError: the spec or the model is not right.
    """
    given = {k: v for k, v in overrides.items() if v is not None}
    if model is not None:
        given["model"] = str(model)
    chosen = load_spec(spec, given) if spec is not None else load_spec(EMBEDDED_SPEC, given)
    chosen = resolve(chosen)
    prompts = build_prompts(chosen)
    embedded = chosen.model is None
    loaded = load_model(
        EMBEDDED if embedded else str(chosen.model),
        unet=chosen.unet or (EMBEDDED_UNET if embedded else None),
        lora=chosen.lora,
        device=device,
        dtype=chosen.precision,
        size=chosen.size,
    )
    plan = Plan(
        readings=chosen.readings,
        steps=chosen.steps,
        guidance=chosen.guidance,
        level=chosen.level,
        pooling=chosen.pooling,
        truncate=chosen.truncate,
    )
    plan.recipes(loaded)  # what does not fit the model is said before anything is captured
    return Job(chosen, loaded, prompts, tuple(range(chosen.seeds)), plan)


def outlook(job: Job) -> Outlook:
    """What the job will take, from counted FLOPs and a short measurement on this device."""
    steps, todo = job.plan.resolve(job.model), job.samples
    full, stopped = steps.forwards
    each = job.model.flops()
    texts = len({t for t, _ in todo})
    width = job.plan.width(job.model) * (len(steps.text) + len(steps.picture))
    probe = [todo[i * len(todo) // 16] for i in range(16)]
    seconds = min(capture(job.model, probe, job.plan, lambda *_: None).seconds for _ in range(2)) / len(probe)
    flops = len(todo) * (full * each["full"] + stopped * each["stopped"]) + texts * each["encode"]
    return Outlook(len(todo), texts, float(flops), len(todo) * (width * 4 + 100), seconds * len(todo))


def capture_job(job: Job, folder: Path, store: str | Path | None = None, progress: Progress | None = None) -> Filled:
    """Captures what the store lacks of the job.

    Raises:
        ScalexError: interrupted (what was captured is kept), or the store cannot be written.
    """
    return fill(Store.open(_store_of(folder, store)), job.model, job.prompts, job.seeds, job.plan, progress)


def analyze(run: str | Path, names: Sequence[str] | None = None) -> Audit:
    """Analyses stored latents again, without the model, and writes the findings tables.

    Args:
        run: folder of a run. names: the analyses; by default those of its spec.

    Raises:
        ScalexError: the folder holds no run, or its latents are gone.
    """
    folder, manifest = _manifest_of(run)
    spec = load_spec(manifest["spec"])
    latents = _latents(spec, manifest)
    wanted = names or (tuple(analyses.available()) if spec.analyses == "all" else spec.analyses)
    found = analyses.run(wanted, latents, spec.attribute_values, spec.rules)
    frame = pd.DataFrame([asdict(f) for f in found], columns=list(Finding.columns()))
    write_tables(frame, folder)
    return Audit(frame, manifest, folder)


def render_report(run: str | Path) -> Path:
    """Renders the report of a run again from its findings, manifest and pictures.

    Raises:
        ScalexError: the folder holds no analysed run.
    """
    result = open_run(run)
    pictures = _load_pictures(result.folder, result.manifest.get("pictures", {}))
    shown = {k: v for k, v in result.manifest.items() if k not in ("pictures", "store")}
    return render(result.findings, shown, pictures, result.report)


def open_run(run: str | Path) -> Audit:
    """The result of an earlier run.

    Raises:
        ScalexError: the folder holds no analysed run.
    """
    folder, manifest = _manifest_of(run)
    table = folder / "findings.parquet"
    if not table.is_file():
        raise ScalexError(f"{folder} holds no findings", f"Run: scalex analyze {folder}")
    return Audit(pd.read_parquet(table), manifest, folder)


def latents_of(run: Audit) -> dict[Reading, Latents]:
    """The stored latents behind a run, by reading.

    Raises:
        ScalexError: they are gone.
    """
    return _latents(load_spec(run.manifest["spec"]), run.manifest)


def _run_folder(out: str | Path) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ScalexError(f"cannot write to {folder}: {error.strerror}", "Choose another folder with --out") from None
    return folder


def _store_of(folder: Path, store: str | Path | None) -> Path:
    return Path(store) if store else folder / "store"


def _latents(spec: AuditSpec, manifest: Mapping[str, Any]) -> dict[Reading, Latents]:
    store = Store.open(manifest["store"], create=False)
    known: dict[str, Recipe] = {stored.recipe.id: stored.recipe for stored in store.recipes()}
    prompts, seeds = build_prompts(spec), range(spec.seeds)
    found: dict[Reading, Latents] = {}
    for reading, name in manifest["recipes"].items():
        if name not in known:
            raise ScalexError(f"the store {manifest['store']} has no latents of this run", "Run the audit again")
        found[reading] = store.read(known[name], prompts, seeds)
    return found


def _draw(job: Job) -> dict[str, UInt8[np.ndarray, "n height width 3"]]:
    """A few pictures of each concept's neutral prompt, from the trajectories that were read."""
    chosen = {}
    for prompt in job.prompts:
        if not prompt.attribute and prompt.concept not in chosen:
            chosen[prompt.concept] = prompt.text
    seeds = job.seeds[:_PICTURES]
    todo = [(text, seed) for text in chosen.values() for seed in seeds]
    drawn = generate(job.model, todo, job.plan)
    return dict(zip(chosen, np.split(drawn, len(chosen)), strict=True))


def _save_pictures(pictures: Mapping[str, UInt8[np.ndarray, "n height width 3"]], folder: Path) -> dict[str, str]:
    """One PNG strip a concept; returns the files by concept."""
    from PIL import Image

    (folder / "pictures").mkdir(exist_ok=True)
    files = {}
    for i, (concept, row) in enumerate(pictures.items()):
        files[concept] = f"pictures/{i:04d}.png"
        Image.fromarray(np.concatenate(list(row), axis=1)).save(folder / files[concept], optimize=True)
    return files


def _load_pictures(folder: Path, files: Mapping[str, str]) -> dict[str, list[UInt8[np.ndarray, "height width 3"]]]:
    from PIL import Image

    rows = {}
    for concept, file in files.items():
        if (folder / file).is_file():
            strip = np.asarray(Image.open(folder / file).convert("RGB"))
            rows[concept] = np.split(strip, strip.shape[1] // strip.shape[0], axis=1)
    return rows


def _manifest(job: Job, filled: Filled, folder: Path, store: str | Path | None) -> dict[str, Any]:
    steps = job.plan.resolve(job.model)
    recipe = next(iter(filled.recipes.values()))
    return {
        "model": _name(job.spec.model),
        "unet": job.spec.unet or (None if job.spec.model else EMBEDDED_UNET),
        "lora": job.spec.lora,
        "model_fingerprint": job.model.fingerprint,
        "sampler": recipe.sampler,
        "steps": job.spec.steps,
        "guidance": steps.guidance,
        "pooling": job.plan.pooling,
        "level": job.plan.level,
        "dtype": job.model.precision,
        "device": str(job.model.device),
        "seeds": len(job.seeds),
        "prompts_hash": prompts_hash(job.prompts),
        "n_prompts": len(job.prompts),
        "n_samples": filled.asked,
        "n_captured": filled.captured,
        "n_forwards": filled.full + filled.stopped,
        "flops": float(filled.flops(job.model)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["scalex", *sys.argv[1:]]) if Path(sys.argv[0]).name == "scalex" else "scalex.audit(...)",
        "versions": _versions(),
        "recipes": {reading: r.id for reading, r in filled.recipes.items()},
        "store": str(_store_of(folder, store).resolve()),
        "notes": _notes(job),
        "spec": job.spec.to_dict(),
    }


def _name(model: str | None) -> str:
    """As people say it: of a local folder its last part; the whole path is in the spec."""
    if model is None:
        return "the embedded organism (emoji)"
    return Path(model).resolve().name if Path(model).is_dir() else model


def _notes(job: Job) -> list[str]:
    unknown = job.model.unknown_words([p.text for p in job.prompts])
    if not unknown:
        return []
    words = ", ".join(f"{word!r}" for word in list(unknown)[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    return [f"The model's tokenizer does not know these words: {words}{more}. What is said of them is of little worth."]


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("scalex-diffusion", "torch", "diffusers", "transformers", "numpy", "scipy", "pylance"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _save_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    write_atomic(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def _manifest_of(run: str | Path) -> tuple[Path, dict[str, Any]]:
    folder = Path(run)
    path = folder / "manifest.json"
    if not path.is_file():
        raise ScalexError(
            f"{folder} is no run: it has no manifest.json", "Name the folder that `scalex audit --out` wrote"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise ScalexError(f"{path} is damaged", "Run the audit again: what was captured is kept") from None
    return folder, manifest
