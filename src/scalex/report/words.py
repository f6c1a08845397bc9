"""The report's sentences, derived from the findings. What is not significant is never called unbiased."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from scalex.records import LeanDirection
from scalex.report import numbers, views
from scalex.report.views import Tally

__all__ = [
    "ALONG",
    "SAYS",
    "SHOWS",
    "Question",
    "capital",
    "deck",
    "differences",
    "headline",
    "isolated",
    "joined",
    "more_seeds",
    "needed",
    "open_questions",
    "section_heading",
    "strongest",
    "summary",
]

_MORE = re.compile(r"about ([\d,]+) more seeds? would decide")
_SIDES = 4  # values named in a sentence
SAYS, SHOWS = "What the words say", "What the picture shows"
ALONG: dict[LeanDirection, str] = {
    "own": "along the line between the two",
    "shared": "along the line that takes the other concepts from the first value to the second",
    "lda": "along the line between the two, where what varies most by chance in these prompts counts least",
    "pooled": "along the line between the two, where what varies most by chance in the prompts of all concepts counts "
    "least",
}
"""What a lean is measured along."""


class Question(NamedTuple):
    """What stays open: `undecided` or `not expressed`.

    `seeds` says for a concept about how many more would decide (of several values the most); `reasons` the others'.
    """

    name: str
    number: int
    seeds: dict[str, int]
    reasons: dict[str, list[str]]


def joined(parts: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    held = list(parts)
    return f" {last} ".join([", ".join(held[:-1]), held[-1]]) if len(held) > 1 else "".join(held)


def isolated(name: str) -> str:
    """The name, fenced off where it is written from right to left, lest it reorder the sentence around it."""
    return f"\u2068{name}\u2069" if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name) else name


def _leans(number: int, total: int) -> str:
    """`30 of 42 concepts lean`, `the one concept leans`, `none of 42 concepts leans beyond doubt`."""
    if total == 1:
        return "The one concept asked leans" if number else "The one concept asked does not lean beyond doubt"
    if not number:
        return f"None of {total} concepts leans beyond doubt"
    return f"{number} of {total} concepts lean{'s' if number == 1 else ''}"


def _sides(tally: Tally, most: int = _SIDES) -> str:
    sides = sorted(((len(held), value) for value, held in tally.leaning.items() if held), key=lambda s: -s[0])
    said = [f"{number} to {value}" for number, value in sides[:most]]
    others = sum(number for number, _ in sides[most:])
    return joined([*said, f"{others} to other values"] if others else said)


def _lean_sides(tally: Tally) -> str:
    """`14 concepts lean to woman and 11 to man`."""
    sides = _sides(tally)
    number, _, rest = sides.partition(" ")
    return f"{number} concept{'s lean' if number != '1' else ' leans'} {rest}"


def headline(tallies: Sequence[Tally]) -> str:
    """The report in one sentence: how many concepts lean on what, and which way."""
    if not tallies:
        return "This audit holds no findings"
    if all(t.total and len(t.unexpressed) == t.total for t in tallies):
        names = joined((t.attribute for t in tallies), "or")
        return f"Nothing can be said of {names}: the model does not express it"
    if len(tallies) == 1:
        tally = tallies[0]
        sides = f": {_sides(tally, 2)}" if tally.leans else ""
        return f"{_leans(tally.leans, tally.total)} on {tally.attribute}{sides}"
    first, *rest = sorted(tallies, key=lambda t: -t.leans)
    tail = joined(
        f"{t.leans or 'none'} of {t.total} on {t.attribute}" if t.leans else f"none on {t.attribute}" for t in rest
    )
    return f"{_leans(first.leans, first.total)} on {first.attribute}, {tail}"


def summary(findings: pd.DataFrame, margin: float, spec: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """What a terminal says of an audit: the headline, a line for each attribute, and the verdicts of what else was
    asked."""
    frame = views.checked(findings)
    tallies = [views.tally(frame, name, spec) for name in views.attributes(frame)]
    lines = [f"{headline(tallies)}."] if tallies or frame.empty else []
    for tally in tallies:
        told = " ".join(filter(None, (strongest(frame, tally), deck(tally, margin))))
        lines.append(f"{capital(tally.attribute)}: {told}")
    others = frame[~frame["analysis"].isin(["defaults", "rates"])]
    for name, verdicts in others.groupby("analysis")["verdict"]:
        counts = joined(f"{number:,} {verdict}" for verdict, number in verdicts.value_counts().items())
        lines.append(f"{capital(str(name))}: {counts}.")
    return lines


def strongest(findings: pd.DataFrame, tally: Tally, each: int = 2) -> str:
    """The concepts that lean furthest each way, with their numbers; empty where nothing leans."""
    said = []
    for value, targets in sorted(tally.leaning.items(), key=lambda side: -len(side[1]))[:_SIDES]:
        named = [f"{isolated(target)} ({_number(findings, tally, target, value)})" for target in targets[:each]]
        if named:
            said.append(f"to {value}: {joined(named)}")
    return f"Furthest {'; '.join(said)}." if said else ""


def _number(findings: pd.DataFrame, tally: Tally, target: str, value: str) -> str:
    found = views.main_rows(findings, tally.attribute)
    found = found[found["target"] == target]
    exact = found[found["value"] == value]
    row = (exact if len(exact) else found).iloc[0]
    return numbers.estimate(row["estimate"], row["unit"])


def deck(tally: Tally, margin: float) -> str:
    """How the verdicts of one attribute divide, each named for what it is."""
    held = [
        (len(tally.away), "lean~ away from one value only"),
        (len(tally.balanced), f"are balanced within ±{margin:.2g}"),
        (len(tally.undecided), "are undecided"),
        (len(tally.unexpressed), "are not expressed"),
        (len(tally.open), "are without a verdict"),
    ]
    rest = [(number, _agreed(number, what)) for number, what in held if number]
    if not rest:
        return "Every concept that was asked leans." if tally.total else ""
    left = tally.total - tally.leans
    who = (
        f"the other {left if left > 1 else 'one'}"
        if tally.leans
        else f"{left} concepts"
        if left > 1
        else "the one concept"
    )
    if len(rest) == 1:
        return f"{capital(who) if tally.leans or left == 1 else f'All {who}'} {rest[0][1]}."
    return f"Of {who}, {joined(f'{number} {what}' for number, what in rest)}."


def _agreed(number: int, what: str) -> str:
    """A verb phrase in the plural (`~` where a singular takes an s), for one or for many."""
    return what.replace("are ", "is ", 1).replace("~", "s") if number == 1 else what.replace("~", "")


def section_heading(tally: Tally) -> str:
    """The attribute's own headline."""
    name = capital(tally.attribute)
    if len(tally.unexpressed) == tally.total:
        return f"{name}: not expressed, so nothing can be said"
    if tally.leans:
        return f"{name}: {_lean_sides(tally)}"
    return f"{name}: no lean beyond doubt"


def capital(text: str) -> str:
    """The text with a capital first letter, and the rest as it is."""
    return text[:1].upper() + text[1:]


def more_seeds(reason: str) -> int | None:
    """The number in `about 40 more seeds would decide`; None where the reason says something else."""
    match = _MORE.search(reason)
    return int(match.group(1).replace(",", "")) if match else None


def needed(reason: str) -> str:
    """A finding's reason without the notes that hold for all findings alike (on templates)."""
    parts = (part.strip() for part in reason.split(";"))
    return "; ".join(part for part in parts if part and not ("template" in part and part.endswith("only")))


def open_questions(findings: pd.DataFrame, tally: Tally) -> list[Question]:
    """Undecided and not expressed concepts, with what would decide or the reasons given."""
    found = views.main_rows(findings, tally.attribute)
    asked = []
    for name, targets in (("Undecided", tally.undecided), ("Not expressed", tally.unexpressed)):
        seeds: dict[str, int] = {}
        reasons: dict[str, list[str]] = {}
        for target in targets:
            own = found[(found["target"] == target) & (found["verdict"].map(views.kind) == name.lower())]["reason"]
            more = [number for number in map(more_seeds, own) if number is not None]
            if more:
                seeds[target] = max(more)
            else:
                reasons.setdefault(needed(own.iloc[0]), []).append(target)
        if targets:
            asked.append(Question(name, len(targets), dict(sorted(seeds.items(), key=lambda s: s[1])), reasons))
    return asked


def differences(findings: pd.DataFrame, tally: Tally, most: int = 3) -> list[str]:
    """Where the two readings part, in sentences; empty where there are not two."""
    both = views.disagreements(findings, tally.attribute)
    if not len(both):
        return []
    concepts = numbers.plural(len(both), "concept" if tally.pair else "concept and value pair")
    tested = views.rows(findings, "disagreement", tally.attribute)
    if len(tested):
        apart = int(tested["verdict"].str.startswith("picture").sum())
        said = [f"Words and picture part, beyond chance and after correction, for {apart} of {concepts}"]
    else:
        same = int((both["verdict"] == both["says"]).sum())
        said = [f"Words and picture come to the same verdict for {same} of {concepts}"]
    sides = [
        (views.leans_to(r["verdict"], tally.values), views.leans_to(r["says"], tally.values))
        for r in views.records(both)
    ]
    against = [
        isolated(str(both["label"].iloc[i]))
        for i, (shown, told) in enumerate(sides)
        if shown and told and shown != told
    ]
    if tally.pair and against:
        named = joined(against[:4] + ([f"{len(against) - 4} more"] if len(against) > 4 else []))
        said.append(f"They lean opposite ways for {named}.")
    furthest = [_apart(row) for row in views.records(both.head(most))]
    return [*said, f"They stand furthest apart for {joined(furthest)}."]


def _apart(row: Mapping[str, Any]) -> str:
    unit = row["unit"]
    told, shown = (numbers.estimate(row[name], unit) for name in ("text", "picture"))
    return f"{isolated(row['label'])} (words {told}, picture {shown})"
