"""A job: what an audit is about to do, made ready and checked, before anything is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scalex import analyses, directions, sequential
from scalex.capture import CaptureStats, Plan
from scalex.models import Model, load_model
from scalex.organisms import EMBEDDED, EMBEDDED_SPEC, EMBEDDED_UNET
from scalex.prompts import AuditSpec, build_prompts, load_spec, resolve, samples
from scalex.records import Prompt

__all__ = ["Job", "analyses_of", "flops_of", "notes_of", "prepare", "to_draw"]

_PICTURES, _FEWEST = 8, 2  # of each concept, in the report: where concepts are few, and where they are many
_IN_ALL = 1_000  # pictures, as long as each concept has the fewest


@dataclass(frozen=True, repr=False)
class Job:
    """An audit made ready: the spec with its concepts listed, the loaded model, the prompts and the plan."""

    spec: AuditSpec
    model: Model
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    plan: Plan

    def at(self, probe: str | None) -> Job:
        """The same job, its model read at another probe; None leaves it as it is.

        Raises:
            ScalexError: the model has no such probe.
        """
        return self if probe is None or probe == self.model.probe else replace(self, model=self.model.at(probe))

    def __repr__(self) -> str:
        """How much is asked of which model."""
        asked = f"{len(self.prompts):,} prompts, {len(self.seeds):,} seeds"
        return f"<Job: {asked}, {', '.join(analyses_of(self.spec))}; {self.model!r}>"

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Every (text, seed) once."""
        return samples(self.prompts, self.seeds)


def prepare(
    model: str | Path | None = None,
    spec: AuditSpec | Path | str | Mapping[str, Any] | None = None,
    *,
    device: str | None = None,
    batch: int | None = None,
    compile: bool = False,
    offload: bool | None = None,
    **overrides: Any,
) -> Job:
    """Reads the spec, loads the model and builds the prompts.

    Args:
        model: folder or hub id in diffusers' form; None is what the spec names, or else the embedded organism.
        spec: a path, a mapping or an `AuditSpec`; None is the default one.
        device: "cpu", "cuda", ...; None is the best there is. batch: samples in a batch; None is what suits the device.
        compile, offload: whether the denoiser's blocks are compiled, and weights streamed to the device, as for
            `scalex.models.load_model`.
        overrides: keys of the spec that replace its own (`seeds=64`).

    Raises:
        ScalexError: the spec or the model is not right.
    """
    given = {k: v for k, v in overrides.items() if v is not None}
    if model is not None:
        given["model"] = str(model)
    asked = EMBEDDED_SPEC if spec is None and given.get("model") is None else spec
    chosen = resolve(load_spec(asked, given))
    names = analyses_of(chosen)
    analyses.check(names, chosen.readings, chosen.moments or 1)  # before anything is captured
    prompts = build_prompts(chosen, analyses.roles(names), analyses.variants(names))
    if chosen.lean_direction == "shared":
        directions.check_shared(len({p.concept for p in prompts if p.role == "concept"}))
    loaded = _load(chosen, device, compile, offload)
    plan = _plan(chosen, loaded, batch)
    # What does not fit the model is said before anything is captured.
    plan.recipes(loaded)
    loaded.check_texts([p.text for p in prompts], chosen.truncate)
    return Job(chosen, loaded, prompts, tuple(chosen.seed_range), plan)


def _load(spec: AuditSpec, device: str | None, compile: bool, offload: bool | None) -> Model:
    """The model that a spec names, or else the embedded organism."""
    embedded = spec.model is None
    return load_model(
        EMBEDDED if embedded else str(spec.model),
        unet=spec.unet or (EMBEDDED_UNET if embedded else None),
        lora=spec.lora,
        scheduler=spec.scheduler,
        device=device,
        dtype=spec.precision,
        size=spec.size,
        probe=spec.probe,
        compile=compile,
        offload=offload,
    )


def _plan(spec: AuditSpec, model: Model, batch: int | None) -> Plan:
    """What a spec says to capture, and how."""
    return Plan(
        readings=spec.readings,
        steps=spec.steps or model.default_steps,
        guidance=spec.guidance,
        keep=spec.keep,
        level=spec.level,
        pooling=spec.pooling,
        truncate=spec.truncate,
        batch=batch,
        moments=spec.moments or 0,
    )


def analyses_of(spec: AuditSpec) -> Sequence[str]:
    """All that are available take the readings, and the moments, that there are; those that are named must find
    theirs."""
    if spec.analyses == "all":
        there = [name for name, a in analyses.available().items() if not analyses.lacking(a, spec.readings)]
        return analyses.means(there) if spec.moments else there
    return spec.analyses


def to_draw(job: Job) -> tuple[dict[str, str], tuple[int, ...]]:
    """The neutral prompts that pictures are drawn of, by concept, and the seeds: fewer where there are many concepts.

    None where no analysis takes a concept by itself, since its pictures stand beside what is found of it.
    """
    chosen: dict[str, str] = {}
    for prompt in job.prompts if analyses.by_concept(analyses_of(job.spec)) else ():
        if prompt.role == "concept" and not prompt.attribute:
            chosen.setdefault(prompt.concept, prompt.text)
    each = max(_FEWEST, min(_PICTURES, _IN_ALL // max(1, len(chosen))))
    return chosen, job.seeds[:each]


def flops_of(job: Job, samples: int, texts: int) -> int:
    """Floating-point operations behind so many samples."""
    full, stopped = job.plan.resolve(job.model).forwards
    return CaptureStats(samples, texts, samples * full, samples * stopped, 0.0, 0).flops(job.model)


def notes_of(job: Job) -> list[str]:
    """What a reader should know of a job before believing its findings: unknown words, too few steps."""
    return [*_unknown_words(job), *_short_of_steps(job), *_nothing_to_decide(job), *_by_blocks(job)]


def _unknown_words(job: Job) -> list[str]:
    unknown = job.model.unknown_words([p.text for p in job.prompts])
    if not unknown:
        return []
    words = ", ".join(f"{word!r}" for word in list(unknown)[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    return [f"The model's tokenizer does not know these words: {words}{more}. What is said of them is of little worth."]


def _short_of_steps(job: Job) -> list[str]:
    made, usual = job.plan.steps, job.model.default_steps
    if made >= usual:
        return []
    return [
        f"The pictures were made in {made} steps, though {usual} are recommended for this model: they may be crude."
    ]


def _nothing_to_decide(job: Job) -> list[str]:
    if job.spec.width is None or sequential.schedule(job.spec, analyses_of(job.spec)):
        return []
    return ["No seeds are added: of the analyses asked for, none decides on a concept by its own samples."]


def _by_blocks(job: Job) -> list[str]:
    if not job.plan.moments:
        return []
    size, seeds = job.plan.moments, len(job.seeds)
    return [
        f"Of the {seeds} seeds the moments of blocks of {size} are kept, and no single sample: intervals and tests "
        f"rest on {seeds // size} means of blocks."
    ]
