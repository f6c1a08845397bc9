"""The command line: one thin command a stage. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalex.errors import ScalexError

if TYPE_CHECKING:
    from scalex.auditing import Audit
    from scalex.jobs import Job
    from scalex.organisms.loop import StageOutlook
    from scalex.organisms.marks import Mark
    from scalex.outlook import Outlook

__all__ = ["app", "main"]

app = typer.Typer(
    name="scalex",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
organism = typer.Typer(help="Model organisms: small diffusion models with planted associations.", no_args_is_help=True)
store = typer.Typer(help="Captured latents: list, check, clean.", no_args_is_help=True)
app.add_typer(organism, name="organism")
app.add_typer(store, name="store")

ModelArg = Annotated[str | None, typer.Argument(help="Folder or hub id; the embedded organism if absent.")]
SpecOpt = Annotated[Path | None, typer.Option("--spec", help="YAML file that says what to ask.")]
OutOpt = Annotated[Path, typer.Option("--out", help="Folder of the run.")]
StoreOpt = Annotated[
    str | None,
    typer.Option(
        "--store", help="Of the latents: a folder, by default in the run's, or s3://, gs:// or az://BUCKET/..."
    ),
]
SeedsOpt = Annotated[int | None, typer.Option("--seeds", help="How many seeds, instead of the spec's.")]
FirstSeedOpt = Annotated[
    int | None, typer.Option("--first-seed", help="Where seeds begin: others repeat an audit on other pictures.")
]
StepsOpt = Annotated[int | None, typer.Option("--steps", help="Denoising steps, instead of the spec's.")]
UnetOpt = Annotated[str | None, typer.Option("--unet", help="Another U-Net for the model, such as a distilled one.")]
SchedulerOpt = Annotated[
    str | None, typer.Option("--scheduler", help="A diffusers scheduler class in place of the model's.")
]
LoraOpt = Annotated[str | None, typer.Option("--lora", help="LoRA weights to fuse into the model.")]
ProbeOpt = Annotated[
    str | None, typer.Option("--probe", help="The block to read, of those that `scalex probe-sweep` lists.")
]
BatchOpt = Annotated[int | None, typer.Option("--batch", help="Samples in a batch; by default what suits the device.")]
CompileOpt = Annotated[
    bool, typer.Option("--compile", help="Compile the denoiser's blocks: a minute or more, for a faster run.")
]
OffloadOpt = Annotated[
    bool | None,
    typer.Option(
        "--offload/--no-offload", help="Stream weights to the device; by default where they do not fit there."
    ),
]
WorkersOpt = Annotated[
    int | None, typer.Option("--workers", help="Processes that capture side by side: one a GPU, or one a core.")
]
EngineOpt = Annotated[
    str | None, typer.Option("--engine", help="What captures: local, processes or ray; by default as --workers says.")
]
AddressOpt = Annotated[
    str | None, typer.Option("--address", help="HOST:PORT of a Ray cluster; without, --engine ray starts one here.")
]
DeviceOpt = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
DtypeOpt = Annotated[str | None, typer.Option("--dtype", help="Of numbers: fp32, bf16 or fp16.")]
MomentsOpt = Annotated[
    int | None,
    typer.Option("--moments", help="Keep mean and variance of so many seeds at a time, in place of single samples."),
]
PrecisionOpt = Annotated[
    float | None,
    typer.Option("--precision", help="Add seeds to undecided concepts, until decided or known to +- this, as 0.05."),
]
BudgetOpt = Annotated[
    int | None, typer.Option("--budget", help="Most seeds a concept may get with --precision; by default 8 x --seeds.")
]
AnalysisOpt = Annotated[
    list[str] | None,
    typer.Option("--analysis", help="Only this one, or `all`, instead of the spec's; may be repeated."),
]
DryOpt = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
MovedOpt = Annotated[str | None, typer.Option("--store", help="Folder of the latents, if they were moved.")]
DevicesOpt = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
RunArg = Annotated[Path, typer.Argument(help="Folder of a run.")]
SideArg = Annotated[
    str, typer.Argument(help="Folder of a run, folder or hub id of a model, or `embedded` for the embedded organism.")
]
FolderArg = Annotated[Path, typer.Argument(help="Folder of an organism.")]
OrganismArg = Annotated[Path | None, typer.Argument(help="Folder of an organism; the embedded one if absent.")]
StoreArg = Annotated[str, typer.Argument(help="Folder of the store, or s3://, gs:// or az://BUCKET/FOLDER.")]


def _say_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"scalex {version('scalex-diffusion')}")
        raise typer.Exit
    return asked


VersionOpt = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and stop.")
]

_SHOWN = 20  # images, or files that were skipped, on the screen
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")  # click's, or typer's own


@app.callback()
def _root(version: VersionOpt = False) -> None:
    """Audit text-to-image diffusion models from the inside."""


@app.command()
def audit(
    model: ModelArg = None,
    spec: SpecOpt = None,
    out: OutOpt = Path("runs/audit"),
    store: StoreOpt = None,
    seeds: SeedsOpt = None,
    first_seed: FirstSeedOpt = None,
    steps: StepsOpt = None,
    unet: UnetOpt = None,
    lora: LoraOpt = None,
    scheduler: SchedulerOpt = None,
    probe: ProbeOpt = None,
    device: DeviceOpt = None,
    batch: BatchOpt = None,
    compile: CompileOpt = False,
    offload: OffloadOpt = None,
    workers: WorkersOpt = None,
    engine: EngineOpt = None,
    address: AddressOpt = None,
    dtype: DtypeOpt = None,
    moments: MomentsOpt = None,
    precision: PrecisionOpt = None,
    budget: BudgetOpt = None,
    analysis: AnalysisOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Capture, analyse and report: leaves report.html and the findings tables."""
    given = locals()
    done = _audited(given, _keys(given))
    if done is None:
        return
    counts = done.findings.groupby(["analysis", "reading", "attribute"]).verdict.value_counts()
    for row in counts.reset_index().itertuples(index=False):
        typer.echo(" / ".join(map(str, row[:-1])) + f": {row[-1]}")
    typer.echo(f"Report: {done.report}")


@app.command("discover-associations")
def discover_associations(
    model: ModelArg = None,
    spec: SpecOpt = None,
    concepts: Annotated[
        str | None,
        typer.Option("--concepts", help="What to ask for, instead of the spec's: a vocabulary, a file, or a,b,c."),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option("--words", help="What it may think of: as for --concepts; `objects` if there is no spec."),
    ] = None,
    out: OutOpt = Path("runs/associations"),
    store: StoreOpt = None,
    seeds: SeedsOpt = None,
    first_seed: FirstSeedOpt = None,
    steps: StepsOpt = None,
    unet: UnetOpt = None,
    lora: LoraOpt = None,
    scheduler: SchedulerOpt = None,
    probe: ProbeOpt = None,
    device: DeviceOpt = None,
    batch: BatchOpt = None,
    compile: CompileOpt = False,
    offload: OffloadOpt = None,
    workers: WorkersOpt = None,
    engine: EngineOpt = None,
    address: AddressOpt = None,
    dtype: DtypeOpt = None,
    moments: MomentsOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Say what a model thinks of that nobody asked: an audit of associations alone, without attributes."""
    from scalex.organisms import EMBEDDED_DISCOVERY

    given = locals()
    if not (model or spec or concepts or words):
        given["spec"] = spec = EMBEDDED_DISCOVERY
    asked = {"concepts": concepts, "words": words or (None if spec else "objects")}
    sources = {key: _source(text, alone=key == "concepts") for key, text in asked.items() if text}
    done = _audited(given, _keys(given) | sources | {"analyses": ["associations"], "attributes": {}})
    if done is None:
        return
    found = done.findings[done.findings.verdict == "stands out"].sort_values("estimate", ascending=False)
    for row in found.head(_SHOWN).itertuples(index=False):
        typer.echo(f"{row.target}: {row.value} ({row.reading}, surprise {row.estimate:+.2f}, q {row.q:.2g})")
    typer.echo(f"{len(found)} associations stand out\nReport: {done.report}")


@app.command()
def capture(
    model: ModelArg = None,
    spec: SpecOpt = None,
    out: OutOpt = Path("runs/audit"),
    store: StoreOpt = None,
    seeds: SeedsOpt = None,
    first_seed: FirstSeedOpt = None,
    steps: StepsOpt = None,
    unet: UnetOpt = None,
    lora: LoraOpt = None,
    scheduler: SchedulerOpt = None,
    probe: ProbeOpt = None,
    device: DeviceOpt = None,
    batch: BatchOpt = None,
    compile: CompileOpt = False,
    offload: OffloadOpt = None,
    workers: WorkersOpt = None,
    engine: EngineOpt = None,
    address: AddressOpt = None,
    dtype: DtypeOpt = None,
    moments: MomentsOpt = None,
    precision: PrecisionOpt = None,
    budget: BudgetOpt = None,
    analysis: AnalysisOpt = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw a few pictures of each concept, for the report.")
    ] = True,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Only part I of N, as 2/8: a job of its own, into a store that the parts share."),
    ] = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Capture the latents that a spec asks for and that the store lacks: a run to be analysed later."""
    from scalex import auditing, jobs, outlook

    keys, loading, crew = _keys(locals()), _loading(locals()), (workers, engine, address)
    job = jobs.prepare(model, spec, **loading, **keys)
    if dry_run:
        _say_outlook(job, outlook.outlook(job, out, store), json_)
        return
    if shard is not None:
        with _progress("capture") as (captured,):
            part = auditing.capture_shard(job, _shard(shard), out, store, captured, *crew)
        _print(
            {"shard": shard, "asked": part.asked, "captured": part.captured, "seconds": round(part.seconds, 1)}, json_
        )
        return
    with _progress("capture", "draw") as (captured, drawn):
        folder, manifest = auditing.capture_run(job, out, store, captured, *crew)
        if pictures:
            manifest = auditing.draw_pictures(job, folder, manifest, drawn)
    _say_notes(manifest["notes"])
    told = {"asked": "n_samples", "captured": "n_captured", "recipes": "recipes"}
    _print({"run": str(folder)} | {name: manifest[key] for name, key in told.items()}, json_)


@app.command("probe-sweep")
def probe_sweep(
    model: ModelArg = None,
    spec: SpecOpt = None,
    concepts: Annotated[int, typer.Option("--concepts", help="How many of the spec's concepts to ask about.")] = 8,
    seeds: SeedsOpt = None,
    steps: StepsOpt = None,
    unet: UnetOpt = None,
    lora: LoraOpt = None,
    scheduler: SchedulerOpt = None,
    device: DeviceOpt = None,
    dtype: DtypeOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Say which block of a model tells the variants of an attribute apart best, and so where to read it."""
    from scalex import jobs, sweep

    job = jobs.prepare(model, spec, device=device, **_keys(locals()))
    with _progress("sweep") as (done,):
        found = sweep.probe_sweep(job, concepts=concepts, progress=done)
    if json_:
        _print_json({"best": _records(found.best()), "table": _records(found.table)})
        return
    kept = found.table[found.table.kept]
    columns = ["reading", "step", "attribute", "probe", "auc", "least", "effect"]
    rows = [tuple(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row) for row in kept[columns].to_numpy()]
    _print_table([("reading", "step", "attribute", "probe", "AUC", "worst", "effect"), *rows])
    for row in found.best().itertuples(index=False):
        used = " (as it is)" if row.probe == job.model.probe else f": --probe {row.probe}"
        typer.echo(f"{row.reading} reading: {row.probe} tells variants apart best, AUC {row.auc:.3f}{used}")


@app.command()
def analyze(
    run: RunArg,
    analysis: Annotated[list[str] | None, typer.Option("--analysis", help="Only this one; may be repeated.")] = None,
    store: MovedOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Analyse the stored latents of a run again, without the model."""
    from scalex import auditing

    result = auditing.analyze(run, analysis, store=store)
    _print_json(_records(result.findings)) if json_ else typer.echo(f"{len(result.findings)} findings in {run}")


@app.command()
def report(run: RunArg, json_: JsonOpt = False) -> None:
    """Render the report of a run again."""
    from scalex import auditing

    page = str(auditing.render_report(run))
    _print_json({"report": page}) if json_ else typer.echo(page)


@app.command()
def compare(
    first: SideArg,
    second: SideArg,
    spec: SpecOpt = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")] = Path("runs/compare"),
    store: StoreOpt = None,
    seeds: SeedsOpt = None,
    first_seed: FirstSeedOpt = None,
    steps: StepsOpt = None,
    unet: UnetOpt = None,
    lora: Annotated[str | None, typer.Option("--lora", help="LoRA weights to fuse into the second model.")] = None,
    scheduler: SchedulerOpt = None,
    probe: ProbeOpt = None,
    device: DeviceOpt = None,
    batch: BatchOpt = None,
    compile: CompileOpt = False,
    offload: OffloadOpt = None,
    workers: WorkersOpt = None,
    engine: EngineOpt = None,
    address: AddressOpt = None,
    dtype: DtypeOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Say which findings moved between two models, or two runs, and report it."""
    from scalex import comparing

    keys = _keys(locals())
    del keys["lora"]
    with _progress("capture A", "draw A", "capture B", "draw B") as (capture_a, draw_a, capture_b, draw_b):
        keys |= {"progress": (capture_a, capture_b), "drawing": (draw_a, draw_b)}
        keys |= {"device": device, "workers": workers, "engine": engine, "address": address}
        done = comparing.compare(first, second, spec, out=out, store=store, lora=lora, **keys)
    _say_notes(done.manifest["notes"])
    if json_:
        _print_json({"report": str(done.report), "moved": _records(done.moved), "findings": _records(done.findings)})
        return
    _print_table(done.moves)
    typer.echo(f"{done.headline}\nReport: {done.report}")


@app.command("check")
def check_run(
    run: RunArg,
    max_lean: Annotated[
        float | None, typer.Option("--max-lean", help="How far a lean may be from 0 (it goes to 0.5).")
    ] = None,
    max_rate_gap: Annotated[
        float | None, typer.Option("--max-rate-gap", help="How far a share of pictures may be from even.")
    ] = None,
    on: Annotated[list[str] | None, typer.Option("--on", help="Only this attribute; may be repeated.")] = None,
    concept: Annotated[list[str] | None, typer.Option("--concept", help="Only this one; may be repeated.")] = None,
    reading: Annotated[str | None, typer.Option("--reading", help="Leans of this one: text or picture.")] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Pass only what is shown to be within its limit, not all but what breaks it."),
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML for a CI system there.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Hold a run against limits, to gate a release. Exit code 1 where one is broken."""
    from scalex import gating

    gate = gating.check(
        run,
        max_lean=max_lean,
        max_rate_gap=max_rate_gap,
        on=on or (),
        concepts=concept or (),
        reading=reading,
        strict=strict,
    )
    if junit:
        gating.junit(gate, junit)
    if json_:
        _print_json({"passed": gate.passed, "strict": gate.strict, "summary": gate.summary, "limits": gate.to_rows()})
    else:
        _print_table([(row.state, row.concept, row.attribute, row.reading, row.told) for row in gate.rows])
        typer.echo(f"{'Passed' if gate.passed else 'FAILED'}: {gate.summary}")
    if not gate.passed:
        raise typer.Exit(1)


@app.command()
def images(
    folder: Annotated[Path, typer.Argument(help="Folder of images; subfolders and labels.csv label them.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of the run whose prompts they are held against.")],
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="Only this one; may be repeated. By default all labelled.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV with a column `file` and labels, if not labels.csv there.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the noise that images are read at.")] = 8,
    draw: Annotated[
        int, typer.Option("--draw", min=0, help="Pictures drawn anew of each prompt, to tell how true names are.")
    ] = 1,
    store: MovedOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Hold images against a run's prompts: do directions agree, and what is each image called?"""
    from scalex.validation.image_conditioning import condition

    with _progress("read", "draw") as (read, drawn):
        done = condition(
            folder,
            run,
            labels=labels,
            attributes=attribute or (),
            seeds=seeds,
            draw=draw,
            store=store,
            device=device,
            progress=read,
            drawing=drawn,
        )
    for line in done.warnings(_SHOWN):
        typer.echo(f"scalex: warning: {line}", err=True)
    for line in [done.text] if json_ else done.lines(_SHOWN):
        typer.echo(line)


@app.command("name")
def name_(
    run: RunArg,
    direction: Annotated[Path | None, typer.Option("--direction", help="File of a direction.")] = None,
    attribute: Annotated[str | None, typer.Option("--attribute", help="An attribute of the run.")] = None,
    concept: Annotated[str | None, typer.Option("--concept", help="A concept or word of the run.")] = None,
    reading: Annotated[str | None, typer.Option("--reading", help="text or picture; by default both.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Words at each pole.")] = 10,
    save: Annotated[Path | None, typer.Option("--save", help="Write the direction to this file.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Name a direction in the words that a run captured, or say that none fits; without the model."""
    from scalex import naming

    asked: dict[str, Any] = {"direction": direction, "attribute": attribute, "concept": concept, "reading": reading}
    found = naming.name_run(run, **asked, top=top, save=save)
    if json_:
        _print_json([naming.as_row(one) for one in found])
        return
    for line in (line for one in found for line in naming.in_lines(one)):
        typer.echo(line)


@app.command("nearest")
def nearest_(
    run: RunArg,
    direction: Annotated[Path | None, typer.Option("--direction", help="File of a direction.")] = None,
    attribute: Annotated[str | None, typer.Option("--attribute", help="An attribute of the run.")] = None,
    concept: Annotated[str | None, typer.Option("--concept", help="A concept or word of the run.")] = None,
    reading: Annotated[str | None, typer.Option("--reading", help="text or picture; by default both.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Words at each pole.")] = 10,
    json_: JsonOpt = False,
) -> None:
    """Say which of a run's words lie nearest to a direction, of millions too: whether that is near, `name` says."""
    from scalex.nearest import nearest

    asked: dict[str, Any] = {"direction": direction, "attribute": attribute, "concept": concept, "reading": reading}
    found = nearest(run, **asked, top=top)
    poles = [[("+", one.plus), ("-", one.minus)] for one in found]
    rows = [
        (one.direction, one.reading, pole, rank, word, float(cosine))
        for one, ends in zip(found, poles)
        for pole, near in ends
        for rank, (word, cosine) in enumerate(zip(near.words, near.cosines), start=1)
    ]
    if json_:
        _print_json([dict(zip(("direction", "reading", "pole", "rank", "word", "cosine"), row)) for row in rows])
        return
    for one in found:
        typer.echo(f"{one.direction} ({one.reading} reading), nearest of {one.n_words:,} words:")
        mine = [row for row in rows if row[:2] == (one.direction, one.reading)]
        _print_table([(f"  {pole}", f"{cosine:+.2f}", word) for _, _, pole, _, word, cosine in mine])


@app.command()
def doctor(json_: JsonOpt = False) -> None:
    """Say what is installed, what is missing and what that means."""
    from scalex.doctor import examine

    rows = examine()
    if json_:
        _print_json([row._asdict() for row in rows])
        return
    for row in rows:
        typer.echo(
            f"{'ok  ' if row.ok else 'miss'}  {row.name}: {row.found}" + (f". {row.way_out}" if row.way_out else "")
        )


@organism.command("train")
def train(
    spec: Annotated[Path, typer.Argument(help="YAML file that says what to plant.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the organism.")],
    device: DevicesOpt = "cpu",
    start: Annotated[
        Path | None, typer.Option("--from", help="Organism whose training goes on with this spec.")
    ] = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Train an organism. A killed run goes on where it was."""
    from scalex.organisms.spec import load_organism_spec
    from scalex.organisms.training import train_organism, training_outlook

    planted = load_organism_spec(spec)
    if dry_run:
        _say_training(*training_outlook(planted, out, device, start), device, json_)
        return
    with _stages() as progress:
        train_organism(planted, out, device, progress, start)
    _print_json({"organism": str(out)}) if json_ else typer.echo(str(out))


@organism.command("check")
def check(
    folder: FolderArg,
    images: Annotated[int, typer.Option("--images", min=8, help="Pictures of each neutral caption.")] = 64,
    card: Annotated[bool, typer.Option("--card", help="Write the model card beside the weights.")] = False,
    json_: JsonOpt = False,
) -> None:
    """Compare what an organism draws with its captions and with what was planted, by the exact readout."""
    from scalex.organisms.card import model_card
    from scalex.organisms.check import check_organism
    from scalex.organisms.readout import load_truth

    if card and folder.is_dir() and not os.access(folder, os.W_OK):
        way_out = "Leave out --card, or copy the organism to a folder of your own"
        raise ScalexError(f"the card cannot be written to {folder}", way_out)
    with _progress("check") as (progress,):
        result = check_organism(folder, images, progress=progress)
    if card:
        (folder / "README.md").write_text(model_card(load_truth(folder), result), encoding="utf-8")
    if not json_:
        typer.echo(result.shares.to_string(index=False, float_format="{:.2f}".format))
    _finish(list(result.marks), json_)


@organism.command("score")
def score(
    folder: OrganismArg = None,
    out: OutOpt = Path("runs/score"),
    seeds: Annotated[int, typer.Option("--seeds", min=4, help="Seeds of the audit.")] = 128,
    block: Annotated[
        int | None, typer.Option("--block", min=4, help="Score so many seeds at a time: the mean over all blocks.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=128, help="Pictures behind each realised share.")] = 512,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this score; may be repeated.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Audit an organism and compare the findings with the truth. Exit code 1 where a mark is missed."""
    from scalex import truth

    with _progress("score") as (progress,):
        marks = truth.score_organism(folder, out, seeds=seeds, block=block, images=images, only=only, progress=progress)
    _finish(marks, json_)


@organism.command("lora")
def lora_of(
    role: Annotated[str, typer.Option("--role", help="The role that is to draw other shares.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the LoRA.")],
    folder: OrganismArg = None,
    woman: Annotated[float | None, typer.Option("--woman", help="Its new P(woman).")] = None,
    dark: Annotated[float | None, typer.Option("--dark", help="Its new P(dark skin).")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")] = None,
    device: DevicesOpt = "cpu",
    json_: JsonOpt = False,
) -> None:
    """Train a LoRA that shifts what one role draws, and nothing else. A killed run goes on where it was."""
    from scalex.organisms import EMBEDDED
    from scalex.organisms.lora import SCHEDULE, train_lora

    schedule = SCHEDULE.model_copy(update={"steps": steps} if steps else {})
    with _stages() as progress:
        train_lora(
            folder or EMBEDDED, role, out, woman=woman, dark=dark, schedule=schedule, device=device, progress=progress
        )
    _print_json({"lora": str(out)}) if json_ else typer.echo(str(out))


@store.command("ls")
def store_ls(folder: StoreArg, json_: JsonOpt = False) -> None:
    """List what a store holds: a line a recipe."""
    from scalex.store import Store

    held = Store.open(folder, create=False).recipes()
    if json_:
        _print_json([{"id": s.recipe.id, **s.recipe.to_dict(), "rows": s.rows, "bytes": s.bytes} for s in held])
        return
    for s in held:
        r = s.recipe
        what = f"blocks of {r.moments} seeds" if r.moments else "samples"
        size = f"{s.rows:>9,} {what}  {s.bytes / 1e6:8.1f} MB"
        typer.echo(f"{r.id}  {size}  {r.reading:<8} {r.steps} steps  model {r.model[:12]}")


@store.command("verify")
def store_verify(
    folder: StoreArg,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged; it will be captured again.")] = False,
    json_: JsonOpt = False,
) -> None:
    """Read every sample and check it. Exit code 1 where something is wrong."""
    from dataclasses import asdict

    from scalex.store import Store

    found = Store.open(folder, create=False).verify(repair=repair)
    _print([{**asdict(h), "ok": h.ok} for h in found], json_)
    if not all(h.ok for h in found):
        raise typer.Exit(1)


@store.command("gc")
def store_gc(folder: StoreArg, json_: JsonOpt = False) -> None:
    """Merge small files and remove old versions and leftovers."""
    from dataclasses import asdict

    from scalex.store import Store

    _print(asdict(Store.open(folder, create=False).gc()), json_)


def main() -> None:
    """Runs the command line: a user's mistake is one line on standard error and exit code 2."""
    warnings.showwarning = _say_warning
    try:
        code = app(prog_name="scalex", standalone_mode=False)
    except ScalexError as error:
        typer.echo(f"scalex: {error}", err=True)
        sys.exit(2)
    except _UsageError as error:
        _say_usage(error)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _say_usage(error: Any) -> None:
    """A mistake of the command line itself in one line; where a group is called without a command, its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    wrong = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx else "scalex"
    typer.echo(f"scalex: {wrong[:1].lower()}{wrong[1:]}. See: {command} --help", err=True)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"scalex: warning: {message}", err=True)


def _audited(given: dict[str, Any], keys: dict[str, Any]) -> Audit | None:
    """The audit that a command's options and keys of the spec ask for; None where all was said already."""
    from scalex import auditing, jobs, outlook

    model, spec, place = given["model"], given["spec"], (given["out"], given["store"])
    if given["dry_run"]:
        job = jobs.prepare(model, spec, **_loading(given), **keys)
        _say_outlook(job, outlook.outlook(job, *place), given["json_"])
        return None
    with _progress("capture", "draw") as (captured, drawn):
        how = _loading(given) | {name: given[name] for name in ("workers", "engine", "address")}
        how |= {"progress": captured, "drawing": drawn}
        done = auditing.audit(model, spec, out=place[0], store=place[1], **how, **keys)
    _say_notes(done.manifest["notes"])
    if given["json_"]:
        _print_json({"run": str(done.folder), "report": str(done.report), "findings": _records(done.findings)})
        return None
    return done


def _shard(text: str) -> tuple[int, int]:
    """I and N of "I/N"."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isascii() and part.isdigit() and parts.isascii() and parts.isdigit()):
        raise ScalexError(f"--shard {text} is not understood", "Write it as 2/8: part 2 of 8")
    return int(part), int(parts)


def _source(text: str, *, alone: bool) -> list[str] | dict[str, str]:
    """Texts as an option names them, as a spec writes them: a file, a vocabulary, or the texts between commas.

    Args:
        alone: whether what is none of these is one text; else it is the wrong name of a vocabulary.
    """
    from scalex.vocabularies import available

    if Path(text).is_file() or (Path(text).suffix and " " not in text and "," not in text):
        return {"file": text}
    if text in available() or not (alone or "," in text):
        return {"vocabulary": text}
    return [part for part in text.split(",") if part.strip()]


def _keys(given: dict[str, Any]) -> dict[str, Any]:
    """The options that replace keys of the spec."""
    names = ("seeds", "first_seed", "moments", "steps", "unet", "lora", "scheduler", "probe")
    renamed = {"precision": given["dtype"], "width": given.get("precision"), "budget": given.get("budget")}
    chosen = given.get("analysis")
    return (
        {name: given.get(name) for name in names}
        | renamed
        | {"analyses": "all" if chosen and "all" in chosen else chosen}
    )


def _loading(given: dict[str, Any]) -> dict[str, Any]:
    """The options that say where and how the model runs."""
    return {name: given[name] for name in ("device", "batch", "compile", "offload")}


def _say_outlook(job: Job, ahead: Outlook, as_json: bool) -> None:
    from dataclasses import asdict

    from scalex.jobs import notes_of

    _say_notes(notes_of(job))
    if as_json:
        _print_json(asdict(ahead))
        return
    ends = [("at least ", ahead), ("at most ", ahead.most)] if ahead.most else [("", ahead)]
    for bound, end in ends:
        typer.echo(
            f"{bound}{end.samples:,} samples of {end.texts:,} texts, {end.flops / 1e12:,.2f} TFLOP, "
            f"{end.bytes / 1e6:,.1f} MB on disk, {end.memory / 1e9:,.1f} GB of memory, "
            f"about {end.seconds:,.0f} s on {job.model.device}"
        )


def _say_training(stages: Sequence[StageOutlook], size: int, device: str, as_json: bool) -> None:
    from scalex.report import numbers

    steps, seconds = sum(s.steps for s in stages), sum(s.seconds for s in stages)
    held = size + sum(s.bytes for s in stages)
    if as_json:
        whole = {"steps": steps, "seconds": seconds, "bytes": held, "stages": [s._asdict() for s in stages]}
        _print_json(whole)
        return
    for s in stages:
        typer.echo(f"{s.stage}: {s.steps:,} steps of {s.batch} samples, about {numbers.duration(s.seconds)}")
    told = f"{steps:,} steps, {held / 1e6:,.1f} MB on disk, about {numbers.duration(seconds)} on {device}"
    typer.echo(f"in all {told}")


def _say_notes(notes: list[str]) -> None:
    """What the report notes of the run, on standard error."""
    for note in notes:
        typer.echo(f"scalex: note: {note}", err=True)


def _finish(marks: list[Mark], as_json: bool) -> None:
    if as_json:
        _print_json([m.row() for m in marks])
    else:
        for m in marks:
            said = "    " if m.mark is None else "ok  " if m.ok else "MISS"
            over = " ({:.3f} to {:.3f})".format(*m.spread) if m.spread else ""
            typer.echo(f"{said}  {m.value:8.3f}  {m.asked:<12}  {m.name}{over}")
    if not all(m.ok for m in marks):
        raise typer.Exit(1)


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        _print_json(result)
        return
    for row in result if isinstance(result, list) else [result]:
        typer.echo("  ".join(f"{k} {v}" for k, v in row.items() if v != ""))


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of text, their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _print_json(result: Any) -> None:
    typer.echo(json.dumps(result, indent=1, ensure_ascii=False, default=str))


def _records(findings: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(findings.to_json(orient="records"))
    return records


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


@contextmanager
def _progress(*stages: str) -> Iterator[list[Callable[[int, int], None]]]:
    """A bar for each stage on standard error, with rate and time left; it appears when there is something to do."""
    with _bar() as bar:
        yield [partial(_show, bar, stage, {}) for stage in stages]


def _show(bar: Any, stage: str, began: dict[str, Any], done: int, total: int) -> None:
    if began.get("total") != total or done < began["done"]:  # the first of a stage, or of its next part
        began |= {"at": time.monotonic(), "task": bar.add_task(stage, total=total, note=""), "total": total}
    began["done"] = done
    rate = done / max(1e-9, time.monotonic() - began["at"])
    bar.update(began["task"], completed=done, total=total, note=f"{rate:,.0f}/s")


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int, float], None]]:
    """One bar for each stage of a training."""
    with _bar() as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, note="")
            bar.update(tasks[stage], completed=done, note=f"loss {loss:.4f}")

        yield show
