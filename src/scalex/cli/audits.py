"""Commands that audit a model, stage by stage, and hold audits against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scalex.cli._help import AUDIT, GATE, command
from scalex.cli._options import (
    AnalysisOpt,
    DryOpt,
    JsonOpt,
    LeanDirectionOpt,
    ModelArg,
    MomentsOpt,
    MovedOpt,
    OutOpt,
    RunArg,
    SideArg,
)
from scalex.cli._say import SHOWN, progress, records, say, say_json, say_notes, say_outlook, say_table
from scalex.cli._taking import CREW, JOB, LOOKS, Given, job_of, keys_of, loading_of, taking
from scalex.errors import ScalexError

if TYPE_CHECKING:
    from scalex.auditing import Audit

__all__ = ["app"]

app = typer.Typer()

_CREW = ("workers", "engine", "address")


@command(
    app,
    group=AUDIT,
    examples=[
        "scalex audit",
        "scalex audit stabilityai/sd-turbo --spec audit.yaml --out runs/turbo",
        "scalex audit path/to/model --spec audit.yaml --seeds 64 --dry-run",
    ],
)
@taking(JOB, CREW, LOOKS)
def audit(
    given: Given,
    model: ModelArg = None,
    out: OutOpt = Path("runs/audit"),
    validate: Annotated[
        bool, typer.Option("--validate", help="Push along the strongest findings' directions: do pictures follow?")
    ] = False,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Capture, analyse and report: leaves report.html and the findings tables."""
    done = _audited(model, given, keys_of(given), out, dry_run, json_, validate)
    if done is None:
        return
    typer.echo(f"{done.summary}\nReport: {done.report}")


@command(
    app,
    "discover-associations",
    group=AUDIT,
    examples=[
        "scalex discover-associations",
        "scalex discover-associations path/to/model --concepts nurse,pilot --words adjectives",
    ],
)
@taking(JOB, CREW, {"moments": MomentsOpt})
def discover_associations(
    given: Given,
    model: ModelArg = None,
    concepts: Annotated[
        str | None,
        typer.Option("--concepts", help="What to ask for, instead of the spec's: a vocabulary, a file, or a,b,c."),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option("--words", help="What it may think of: as for --concepts; `objects` if there is no spec."),
    ] = None,
    out: OutOpt = Path("runs/associations"),
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Say what a model thinks of that nobody asked: an audit of associations alone, without attributes."""
    from scalex.organisms import EMBEDDED_DISCOVERY

    if not (model or given["spec"] or concepts or words):
        given["spec"] = EMBEDDED_DISCOVERY
    asked = {"concepts": concepts, "words": words or (None if given["spec"] else "objects")}
    sources = {key: _source(text, alone=key == "concepts") for key, text in asked.items() if text}
    keys = keys_of(given) | sources | {"analyses": ["associations"], "attributes": {}}
    done = _audited(model, given, keys, out, dry_run, json_)
    if done is None:
        return
    found = done.findings[done.findings.verdict == "stands out"].sort_values("estimate", ascending=False)
    for row in found.head(SHOWN).itertuples(index=False):
        typer.echo(f"{row.target}: {row.value} ({row.reading}, surprise {row.estimate:+.2f}, q {row.q:.2g})")
    typer.echo(f"{len(found)} associations stand out\nReport: {done.report}")


@command(
    app,
    group=AUDIT,
    examples=[
        "scalex capture path/to/model --spec audit.yaml --out runs/mine",
        "scalex capture path/to/model --spec audit.yaml --store s3://bucket/latents --shard 2/8",
    ],
)
@taking(JOB, CREW, LOOKS)
def capture(
    given: Given,
    model: ModelArg = None,
    out: OutOpt = Path("runs/audit"),
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
    from scalex import auditing, outlook

    job, store, crew = job_of(model, given), given["store"], [given[name] for name in _CREW]
    if dry_run:
        say_outlook(job, outlook.outlook(job, out, store), json_)
        return
    if shard is not None:
        with progress("capture") as (captured,):
            part = auditing.capture_shard(job, _shard(shard), out, store, captured, *crew)
        say({"shard": shard, "asked": part.asked, "captured": part.captured, "seconds": round(part.seconds, 1)}, json_)
        return
    with progress("capture", "draw") as (captured, drawn):
        folder, manifest = auditing.capture_run(job, out, store, captured, *crew)
        if pictures:
            manifest = auditing.draw_pictures(job, folder, manifest, drawn)
    say_notes(manifest["notes"])
    told = {"asked": "n_samples", "captured": "n_captured", "recipes": "recipes"}
    if json_:
        say_json({"run": str(folder)} | {name: manifest[key] for name, key in told.items()})
        return
    typer.echo(
        f"{folder}: {manifest['n_samples']:,} samples asked for, {manifest['n_captured']:,} captured now; "
        f"`scalex analyze {folder}` comes next"
    )


@command(app, group=AUDIT, examples=["scalex analyze runs/mine --analysis all"])
def analyze(
    run: RunArg,
    analysis: AnalysisOpt = None,
    store: MovedOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Analyse the stored latents of a run again, without the model."""
    from scalex import auditing

    result = auditing.analyze(run, "all" if analysis and "all" in analysis else analysis, store=store)
    told = f"{len(result.findings)} findings in {run}; `scalex report {run}` shows them"
    say_json(records(result.findings)) if json_ else typer.echo(told)


@command(app, group=AUDIT, examples=["scalex report runs/mine"])
def report(run: RunArg, json_: JsonOpt = False) -> None:
    """Render the report of a run again."""
    from scalex import auditing

    page = str(auditing.render_report(run))
    say_json({"report": page}) if json_ else typer.echo(page)


@command(
    app,
    group=GATE,
    examples=["scalex compare runs/mine runs/tuned", "scalex compare runs/mine path/to/tuned --out runs/compare"],
)
@taking(JOB, CREW, {"lean_direction": LeanDirectionOpt}, without=("lora",))
def compare(
    given: Given,
    first: SideArg,
    second: SideArg,
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")] = Path("runs/compare"),
    lora: Annotated[str | None, typer.Option("--lora", help="LoRA weights to fuse into the second model.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Say which findings moved between two models, or two runs, and report it."""
    from scalex import comparing

    keys = {name: value for name, value in keys_of(given).items() if name != "lora"}
    keys |= loading_of(given) | {name: given[name] for name in _CREW}
    with progress("capture A", "draw A", "capture B", "draw B") as (capture_a, draw_a, capture_b, draw_b):
        keys |= {"progress": (capture_a, capture_b), "drawing": (draw_a, draw_b)}
        done = comparing.compare(first, second, given["spec"], out=out, store=given["store"], lora=lora, **keys)
    say_notes(done.manifest["notes"])
    if json_:
        say_json({"report": str(done.report), "moved": records(done.moved), "findings": records(done.findings)})
        return
    say_table(done.moves)
    typer.echo(f"{done.headline}\nReport: {done.report}")


@command(
    app,
    "check",
    group=GATE,
    examples=[
        "scalex check runs/mine --max-lean 0.25 --attribute gender --junit check.xml",
        "scalex check runs/mine --max-rate-gap 0.3 --strict",
    ],
)
def check_run(
    run: RunArg,
    max_lean: Annotated[
        float | None, typer.Option("--max-lean", help="How far a lean may be from 0 (it goes to 0.5).")
    ] = None,
    max_rate_gap: Annotated[
        float | None, typer.Option("--max-rate-gap", help="How far a share of pictures may be from even.")
    ] = None,
    on: Annotated[list[str] | None, typer.Option("--attribute", "--on", help="Only this one; may be repeated.")] = None,
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
        say_json({"passed": gate.passed, "strict": gate.strict, "summary": gate.summary, "limits": gate.to_rows()})
    else:
        say_table([(row.state, row.concept, row.attribute, row.reading, row.told) for row in gate.rows])
        typer.echo(f"{'Passed' if gate.passed else 'FAILED'}: {gate.summary}")
    if not gate.passed:
        raise typer.Exit(1)


def _audited(
    model: str | None, given: Given, keys: Given, out: Path, dry_run: bool, json_: bool, validated: bool = False
) -> Audit | None:
    """The audit that a command's options and keys of the spec ask for; None where all was said already."""
    from scalex import auditing, jobs, outlook

    spec, store = given["spec"], given["store"]
    if dry_run:
        job = jobs.prepare(model, spec, **loading_of(given), **keys)
        say_outlook(job, outlook.outlook(job, out, store), json_)
        return None
    with progress("capture", "draw", "capture directions", "push") as (captured, drawn, learned, pushed):
        how = loading_of(given) | {name: given[name] for name in _CREW}
        how |= {"progress": captured, "drawing": drawn}
        done = auditing.audit(model, spec, out=out, store=store, **how, **keys)
        if validated:
            from scalex.validation.dose_response import validate

            validate(done.folder, device=given["device"], capturing=learned, pushing=pushed)
            done = auditing.open_run(done.folder)
    say_notes(done.manifest["notes"])
    if json_:
        say_json({"run": str(done.folder), "report": str(done.report), "findings": records(done.findings)})
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
