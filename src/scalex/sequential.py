"""More seeds where an audit is undecided and nowhere else, in looks that together err no more than one look would.

The looks are fixed beforehand: the spec's seeds, twice as many, and so on up to its budget. At each, the concepts that
are still open get their further seeds and are analysed at the level that this look may spend (Lan and DeMets 1983,
Biometrika 70: 659-663, with the spending function that comes near Pocock's boundary; see `stats.look_levels`). A
concept stops once all that is asked of it is decided, or known as precisely as was asked, and keeps the findings of
that look. It stays in the family of later corrections: with p = 0 where it was found to lean, with p = 1 else.

Analyses that hold concepts against each other look once, at the first seeds, at the full level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from scalex import analyses, stats
from scalex.capture import Plan, Progress
from scalex.engine import Fill, Filled, fill
from scalex.errors import resumable
from scalex.models import Model
from scalex.prompts import AuditSpec
from scalex.records import Finding, Latents, Prompt, Reading, Rules
from scalex.store import Store

__all__ = [
    "Choice",
    "Followed",
    "Look",
    "Schedule",
    "Source",
    "capture_looks",
    "concerned",
    "follow",
    "note",
    "of_look",
    "open_concepts",
    "replay",
    "schedule",
    "schedule_of",
]

_SPENDING: stats.Spending = "pocock"  # O'Brien's first looks ask for a p below what 9,999 flips can give


class Look(NamedTuple):
    """The concepts that are looked at, and at how many seeds each, counted from the first one."""

    seeds: int
    concepts: tuple[str, ...]


Source: TypeAlias = Callable[[Look], Mapping[Reading, Latents]]
"""Where the latents of a look come from: captured, stored or simulated."""

Choice: TypeAlias = Callable[[int, Sequence[Finding]], Sequence[str]]
"""From the number of a look, from 0, and its findings to the concepts that go on."""


@dataclass(frozen=True)
class Schedule:
    """What is fixed before the first look.

    Attributes:
        seeds: at each look. rules: of each look; they differ in level alone.
        width: half-width of an interval that is precise enough, in units of a lean or a share.
    """

    seeds: tuple[int, ...]
    rules: tuple[Rules, ...]
    width: float


class Followed(NamedTuple):
    """The looks that were taken, and of every concept the findings of its last one."""

    looks: tuple[Look, ...]
    findings: list[Finding]


def schedule(spec: AuditSpec, names: Sequence[str]) -> Schedule | None:
    """The looks that a spec asks for; None where it asks for none, or where no analysis could decide anything."""
    if spec.width is None or not analyses.decisive(names):
        return None
    return schedule_of(spec.seeds, spec.most_seeds, spec.width, spec.rules)


def schedule_of(seeds: int, budget: int, width: float, rules: Rules) -> Schedule:
    """Looks at `seeds`, twice as many and so on, the last at `budget`; together they keep the level of the rules."""
    looks = [seeds]
    while looks[-1] < budget:
        looks.append(min(2 * looks[-1], budget))
    levels = stats.look_levels(rules.level, [n / budget for n in looks], _SPENDING)
    return Schedule(tuple(looks), tuple(replace(rules, level=level) for level in levels), width)


def follow(
    names: Sequence[str],
    plan: Schedule,
    source: Source,
    concepts: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    choose: Choice | None = None,
) -> Followed:
    """Looks until no concept is open or the schedule ends.

    Args:
        names: of analyses that take a concept by itself. plan: the looks.
        source: asked once a look, for the open concepts alone.
        choose: who goes on; by default those that are open (see `open_concepts`).

    Raises:
        ScalexError: as the analyses and the source raise.
    """
    looks: list[Look] = []
    kept: list[Finding] = []
    order: dict[tuple[object, ...], int] = {}
    going = tuple(concepts)
    for i, (n, rules) in enumerate(zip(plan.seeds, plan.rules)):
        looks.append(Look(n, going))
        found = analyses.run(names, source(looks[-1]), attributes, rules, _settled(kept))
        order = order or {_key(f): place for place, f in enumerate(found)}
        chosen = set(choose(i, found) if choose else open_concepts(found, plan.width))
        going = tuple(c for c in going if c in chosen) if i + 1 < len(plan.seeds) else ()
        kept += _told([f for f in found if f.target not in going], i, plan)
        if not going:
            break
    return Followed(tuple(looks), sorted(kept, key=lambda f: order.get(_key(f), len(order))))


def open_concepts(found: Sequence[Finding], width: float) -> tuple[str, ...]:
    """The concepts of which a decisive finding is neither decided nor known to half-width `width`."""
    return tuple(dict.fromkeys(f.target for f in _undecided(found) if not _precise(f, width)))


def _undecided(found: Sequence[Finding]) -> list[Finding]:
    """Those that a concept is waited for."""
    decisive = analyses.decisive(dict.fromkeys(f.analysis for f in found))
    return [f for f in found if f.analysis in decisive and f.verdict == "undecided"]


def _precise(finding: Finding, width: float) -> bool:
    return (finding.high - finding.low) / 2 <= width  # no interval is not a narrow one: NaN says no


def _settled(found: Sequence[Finding]) -> list[Finding]:
    """What concepts that stopped count for in later corrections: claims are not taken back, nor made any more."""
    p = (f.p if math.isnan(f.p) else float(not claimed) for f, claimed in zip(found, analyses.claims(found)))
    return [replace(f, p=one, q=math.nan) for f, one in zip(found, p)]


def _told(found: Sequence[Finding], look: int, plan: Schedule) -> list[Finding]:
    """The findings with the look that they come from, where there could be several."""
    if len(plan.seeds) == 1:
        return list(found)
    precise = {_key(f) for f in _undecided(found) if _precise(f, plan.width)}
    told = {True: f"as precise as asked, ±{plan.width:g}", False: ""}
    at = f"look {look + 1} of {len(plan.seeds)}"
    return [replace(f, reason="; ".join(filter(None, (f.reason, told[_key(f) in precise], at)))) for f in found]


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.analysis, finding.reading, finding.target, finding.attribute, finding.value, finding.unit


# ---------------------------------------------------------------------------------------------------- capture, replay


def concerned(names: Sequence[str], prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The prompts that may get more seeds than the first: those of what a concept is decided by."""
    roles = analyses.roles(analyses.by_concept(names))
    return tuple(p for p in prompts if p.role in roles)


def of_look(
    spec: AuditSpec, names: Sequence[str], prompts: Sequence[Prompt], look: Look
) -> tuple[tuple[Prompt, ...], range]:
    """The prompts and the seeds of a look at a run of these analyses."""
    some = set(look.concepts)
    chosen = tuple(p for p in concerned(names, prompts) if p.concept in some)
    return chosen, range(spec.first_seed, spec.first_seed + look.seeds)


def capture_looks(
    spec: AuditSpec,
    names: Sequence[str],
    store: Store,
    model: Model,
    prompts: Sequence[Prompt],
    plan: Plan,
    progress: Progress | None = None,
    fill: Fill = fill,
) -> tuple[Filled, tuple[Look, ...]]:
    """Captures what the store lacks: all prompts at the first seeds, then open concepts at more, look by look.

    Only the main reading decides (the picture's where there is one), by the analyses of `names` that can.

    Returns:
        What was captured in all, and the looks; none where the spec does not ask for any.

    Raises:
        ScalexError: interrupted (what was captured is kept), or as capture and analyses raise.
    """
    parts = [fill(store, model, prompts, spec.seed_range, plan, progress)]
    looks = schedule(spec, names)
    if looks is None:
        return parts[0], ()
    main: Reading = "picture" if "picture" in spec.readings else "text"
    before = {n: m for m, n in zip((0, *looks.seeds), looks.seeds)}

    def source(look: Look) -> dict[Reading, Latents]:
        chosen, seeds = of_look(spec, names, prompts, look)
        if before[look.seeds]:
            parts.append(fill(store, model, chosen, seeds[before[look.seeds] :], plan, progress))
        return {main: store.read(parts[0].recipes[main], chosen, seeds)}

    concepts = tuple(dict.fromkeys(p.concept for p in prompts if p.role == "concept"))
    with resumable("what was captured is kept"):
        followed = follow(analyses.decisive(names), looks, source, concepts, spec.attribute_values)
    return _together(parts), followed.looks


def replay(
    spec: AuditSpec,
    names: Sequence[str],
    looks: Sequence[Mapping[str, Any]],
    latents: Mapping[Reading, Latents],
    later: Source,
) -> analyses.Outcome:
    """Findings and tables of a run whose looks are known, as `analyses.explore` gives them.

    Args:
        names: any analyses. looks: `{"seeds": n, "concepts": [...]}`, as the manifest has them.
        latents: of all prompts at the first seeds. later: of a look beyond the first.

    Raises:
        ScalexError: as the analyses raise, or latents are gone.
    """
    asked = schedule_of(spec.seeds, spec.most_seeds, spec.width or math.inf, spec.rules)
    own, going = analyses.by_concept(names), [tuple(look["concepts"]) for look in looks]
    once = analyses.explore([n for n in names if n not in own], latents, spec.attribute_values, spec.rules)
    if not own:
        return once
    followed = follow(
        own,
        asked,
        lambda look: latents if look.seeds == spec.seeds else later(look),
        going[0],
        spec.attribute_values,
        lambda i, _: going[i + 1] if i + 1 < len(going) else (),
    )
    place = {name: i for i, name in enumerate(names)}
    found = sorted([*once.findings, *followed.findings], key=lambda f: place[f.analysis])
    return analyses.Outcome(found, once.tables)


def _together(parts: Sequence[Filled]) -> Filled:
    """What several fills took, of the same recipes and of different samples."""
    counts = ("asked", "captured", "texts", "full", "stopped", "seconds")
    return replace(parts[0], **{name: sum(getattr(part, name) for part in parts) for name in counts})


# ---------------------------------------------------------------------------------------------------- words

_VALID = (
    "The error that a single look would have is spent over all looks, after Lan and DeMets (1983, Biometrika 70: "
    "659-663), so intervals are a little wider than they would be."
)


def note(spec: AuditSpec, looks: Sequence[Look]) -> list[str]:
    """What a reader should know of the looks; nothing where only one was planned."""
    if not looks or spec.most_seeds == spec.seeds:
        return []
    if len(looks) == 1:
        return [f"No concept was left undecided at {looks[0].seeds} seeds, so none got more. {_VALID}"]
    each = [f"{len(look.concepts)} at {look.seeds}" for look in looks]
    told = f"of {len(looks[0].concepts)} concepts at {looks[0].seeds} seeds, then {', '.join(each[1:])}"
    return [f"Seeds were added to undecided concepts, in {len(looks)} looks: {told}. {_VALID}"]
