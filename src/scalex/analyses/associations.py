"""Associations: what a model thinks of that nobody asked. For every target the words that stand out, of a vocabulary.

Each target is held against every word (against the other targets where there are no words): *alignment*, the cosine of
their latents, centred on the words' mean and standardised, and *surprise*, what of it the texts' own similarity does
not explain. A word stands out where its surprise is beyond how words usually scatter, corrected over all pairs, and
seeds agree that it is above zero. Formulas and sources are in `_frame` and `_pairs`, the interval's in
`surprise_scores`.

A word that lies near a stronger one stands out in its wake: a target that draws tents is near camping, too. Words are
therefore looked at from the strongest down, and one whose surprise is explained by those before it (regressed on their
latents) is said to go with them. It keeps its q; it is no association of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import stats as distributions

from scalex import directions, stats
from scalex.analyses._frame import REPEATS, Frame, Side, frame_of, sides
from scalex.analyses._outcome import Outcome, Scored
from scalex.analyses._pairs import LEAST, Block, Explained, Ranked, artanh, blocks, explained, rank
from scalex.analyses._planted import Planted
from scalex.analyses._rows import blank, join
from scalex.records import Finding, Latents, Prompt, Reading, Role, Rules

__all__ = [
    "EMBEDDINGS",
    "MEANS",
    "NAME",
    "READINGS",
    "ROLES",
    "VARIANTS",
    "between",
    "conclude",
    "explore",
    "planted",
    "surprise_scores",
]

NAME = "associations"
READINGS: tuple[Reading, ...] = ("text", "picture")
ROLES: tuple[Role, ...] = ("concept", "word")
VARIANTS: tuple[Role, ...] = ()
EMBEDDINGS = True
MEANS = True

STANDS_OUT, GOES_WITH = "stands out", "goes with "
_EACH = 5  # findings of one target
_ALL = 500  # findings in all, beside the best word of each target
_RANKED = 10  # words of each target in the table
_COMPARED = 400  # pairs that two models are compared in: of more, sign flips could not tell a single one
_CLOUD = 1500  # pairs drawn behind those that stand out


def explore(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Outcome:
    """The words that stand out most for each target, at least the first one of each, and tables.

    Tables: `ranking` (the first words of each target), `pairs` (some of all pairs, for a chart), `usual` (the alignment
    that pairs of a text similarity usually have), `tests` (how many pairs were tested, and how many have a q of at most
    1 - level), `shared` (the words nearest to what all targets have in common, which was taken away from each).

    Raises:
        ScalexError: too few seeds, or no text embeddings were kept.
    """
    plan = directions.plan_of(latents, rules)
    words_in: Role = "word" if latents.named("word") else "concept"
    frame = frame_of(latents, words_in)
    targets, words, shared = sides(latents, frame, words_in)
    row = blank(NAME, latents, "", "word", "surprise", plan.n_templates)
    usual = explained(targets, words)
    if usual is None:
        return Outcome([_unread(row, targets, i, words) for i in range(len(targets.names))], {})
    found = rank(targets, words, usual, most=_RANKED, alpha=1 - rules.level)
    case = _Case(latents, words_in, frame, targets, words, shared, usual, found)
    chosen = _chosen(found, rules)
    level = 1 - (1 - rules.level) * min(1.0, chosen.sum() / max(1, found.tests))
    findings = []
    for i in range(len(targets.names)):
        ranks = np.flatnonzero(chosen[i])
        unread = [] if len(ranks) else [_unread(row, targets, i, words)]
        findings += unread or _of_target(case, i, ranks, row, plan, level, rules)
    return Outcome(findings, _tables(case))


def between(first: Latents, second: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Iterator[Scored]:
    """The words of each target that are the most surprising in both models together, five each and 400 pairs in all.

    Pairs that were picked because they stand out in one model would be found to have moved: a part of what made them
    stand out is chance. The mean over both models says nothing of their difference (independent filtering: Bourgon,
    Gentleman and Huber 2010, PNAS 107: 9546-9551), and what only one of them has is in it by half.

    Raises:
        ScalexError: as for `explore`.
    """
    cases = [_case(x) for x in (first, second)]
    if any(case is None for case in cases):
        return
    a, b = (case for case in cases if case)
    for at, word in _strongest(a, b):
        own = [_scores_of(case, at, word) for case in (a, b)]
        yield Scored(a.targets.names[at], "word", a.words.names[word], "surprise", own[0], own[1])


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict: a word stands out, does not, or seeds leave it undecided."""
    if finding.verdict:
        return finding
    if not finding.q <= 1 - rules.level:
        verdict, why = "does not stand out", f"no nearer than words usually lie (q {finding.q:.2g})"
    elif math.isnan(finding.low):
        verdict, why = "undecided", "the latents do not vary between seeds"
    elif finding.low <= 0:
        verdict, why = "undecided", f"beyond other words (q {finding.q:.2g}), but seeds do not agree yet: use more"
    else:
        verdict, why = STANDS_OUT, f"q {finding.q:.2g} after correction"
    return replace(finding, verdict=verdict, reason=join(why, finding.reason))


class _Seen(NamedTuple):
    """What the words of one model are seen in."""

    latents: Latents
    words_in: Role
    frame: Frame
    targets: Side
    words: Side
    usual: Explained


def _case(latents: Latents) -> _Seen | None:
    """None where the words do not scatter."""
    words_in: Role = "word" if latents.named("word") else "concept"
    frame = frame_of(latents, words_in)
    targets, words, _ = sides(latents, frame, words_in)
    usual = explained(targets, words)
    return _Seen(latents, words_in, frame, targets, words, usual) if usual else None


def _strongest(a: _Seen, b: _Seen) -> list[tuple[int, int]]:
    """The pairs of targets and words, by their surprise in both models together."""
    found: list[tuple[float, int, int]] = []
    for one, other in zip(blocks(a.targets, a.words), blocks(b.targets, b.words)):
        tested = one.tested & other.tested
        mean = (_surprises(one, a.usual) + _surprises(other, b.usual)) / 2
        mean = np.where(tested, mean, -np.inf)
        for row, at in enumerate(range(*one.rows.indices(len(a.targets.names)))):
            best = np.argsort(-mean[row], kind="stable")[:_EACH]
            found += [(float(mean[row, word]), at, int(word)) for word in best if tested[row, word]]
    return [(at, word) for _, at, word in sorted(found, reverse=True)[:_COMPARED]]


def _surprises(block: Block, usual: Explained) -> Float[np.ndarray, "rows words"]:
    """NaN where a side does not repeat."""
    out = np.full(block.raw.shape, math.nan)
    aligned = np.divide(block.raw, block.shared, out=out, where=block.tested)
    return np.asarray(aligned - usual.alignment(block.text))


def _scores_of(seen: _Seen, at: int, word: int) -> Float[np.ndarray, "templates seeds"]:
    text = np.asarray(seen.targets.text[[at]] @ seen.words.text[word], dtype=np.float64)
    own = seen.frame.latents(seen.latents, seen.targets.names[at], "concept")
    other = seen.frame.latents(seen.latents, seen.words.names[word], seen.words_in)
    return surprise_scores(own, other, float(seen.usual.alignment(text)[0]))


class _Case(NamedTuple):
    """All that rows are made of."""

    latents: Latents
    words_in: Role
    frame: Frame
    targets: Side
    words: Side
    shared: Side
    usual: Explained
    found: Ranked


def _unread(row: Finding, targets: Side, at: int, words: Side) -> Finding:
    """The row of a target that cannot be held against words, and why."""
    others = int(words.known.sum())
    if targets.size[at] == 0:
        why = "its latents are those of the words' mean"
    elif not targets.known[at]:
        why = f"seeds hardly agree on it (repeatability {targets.repeat[at]:.2f}, least {REPEATS:g}): use more"
    elif others <= LEAST:
        why = f"{others} words with latents of their own are too few to say how words scatter: use more than {LEAST}"
    else:
        why = "the words do not scatter"
    return replace(row, target=targets.names[at], verdict="undecided", reason=join(why, row.reason))


def _chosen(found: Ranked, rules: Rules) -> Bool[np.ndarray, "targets most"]:
    """Which pairs are reported: the strongest of those beyond others, few of each target, and the best of each."""
    beyond = (found.q <= 1 - rules.level) & (np.arange(found.q.shape[1]) < _EACH)
    if beyond.sum() > _ALL:
        beyond &= found.p <= np.partition(found.p[beyond], _ALL - 1)[_ALL - 1]
    beyond[:, 0] = True
    return np.asarray(beyond & (found.words >= 0))


# ---------------------------------------------------------------------------------------------------- rows


def surprise_scores(
    target: Float[np.ndarray, "templates seeds width"],
    word: Float[np.ndarray, "templates seeds width"],
    expected: float,
) -> Float[np.ndarray, "templates seeds"]:
    """Scores whose mean is the surprise of a pair, and whose spread over seeds is its uncertainty.

    The pseudo-values of the three products of the alignment (`directions.pseudo_products`), put together by the delta
    method. What is expected of the pair's text similarity is taken as given: it rests on all pairs.

    Args:
        target, word: standardised latents. expected: alignment at their text similarity.
    """
    both, own, others = (directions.pseudo_products(x, y) for x, y in ((target, word), (target, target), (word, word)))
    scale = math.sqrt(own.mean() * others.mean())
    r = both.mean() / scale
    moved = (both - both.mean()) / scale - r / 2 * ((own / own.mean() - 1) + (others / others.mean() - 1))
    return np.asarray(r - expected + moved)


def _of_target(
    case: _Case,
    at: int,
    ranks: Int[np.ndarray, "rows"],
    row: Finding,
    plan: stats.ResamplingPlan,
    level: float,
    rules: Rules,
) -> list[Finding]:
    """The rows of one target, best word first.

    Their intervals keep the false coverage rate over all that is reported out of all that was tested: each has level
    1 - alpha R / m (Benjamini and Yekutieli 2005, Journal of the American Statistical Association 100: 71-81). Without
    that, intervals of pairs that were picked for being large would be too short.
    """
    held = case.found.words[at, ranks]
    text = np.asarray(case.targets.text[at] @ case.words.text[held].T, dtype=np.float64)
    expected = case.usual.alignment(text)
    own = case.frame.latents(case.latents, case.targets.names[at], "concept")
    rows = []
    for rank_, word, similar, usual in zip(ranks, held, text, expected):
        other = case.frame.latents(case.latents, case.words.names[word], case.words_in)
        scores = surprise_scores(own, other, float(usual))
        low, high = stats.bootstrap_interval(plan, scores, level)
        told = (
            f"alignment {scores.mean() + usual:+.2f}, text similarity {similar:+.2f}; rank {rank_ + 1} of "
            f"{len(case.words.names):,} words; {case.found.tests:,} pairs tested"
        )
        pair = replace(row, target=case.targets.names[at], value=case.words.names[word], reason=join(told, row.reason))
        p, q = float(case.found.p[at, rank_]), float(case.found.q[at, rank_])
        rows.append(replace(pair, estimate=float(scores.mean()), low=low, high=high, p=p, q=q))
    return _in_the_wake(case, at, ranks, rows, rules)


def _in_the_wake(
    case: _Case, at: int, ranks: Int[np.ndarray, "rows"], rows: list[Finding], rules: Rules
) -> list[Finding]:
    """The rows, with a verdict where stronger words explain why one stands out.

    With A the words before it that stand out by themselves, b = R_AA^-1 r_A explains r_wA b of the alignment of w.
    """
    held = case.words.take(case.found.words[at, ranks])
    aligned = case.targets.take([at]).alignment(held)[0]
    between = held.alignment(held)
    np.fill_diagonal(between, 1.0)
    shared = case.targets.take([at]).shared(held)[0]
    limit = float(distributions.t.isf(case.found.limit, case.found.df[at])) if case.found.limit > 0 else math.inf
    before: list[int] = []
    judged = []
    for i, (rank_, finding) in enumerate(zip(ranks, rows)):
        if not (finding.q <= 1 - rules.level and finding.low > 0):
            judged.append(finding)
            continue
        if not before:
            before.append(i)
            judged.append(finding)
            continue
        parts = between[i, before] * (np.linalg.pinv(between[np.ix_(before, before)]) @ aligned[before])
        raw = case.found.raw[at, [rank_]]
        moved = artanh(raw) - artanh(raw - parts.sum() * shared[i])
        if case.found.z[at, rank_] - moved[0] / case.found.scale[at, rank_] < limit:
            with_ = held.names[before[int(parts.argmax())]]
            why = f"it is near {with_}, and stands out no further than that explains (q {finding.q:.2g})"
            judged.append(replace(finding, verdict=f"{GOES_WITH}{with_}", reason=join(why, finding.reason)))
        else:
            before.append(i)
            judged.append(finding)
    return judged


# ---------------------------------------------------------------------------------------------------- tables


def _tables(case: _Case) -> dict[str, pd.DataFrame]:
    found, words = case.found, np.array(case.words.names, dtype=object)
    at, ranks = np.nonzero(found.words >= 0)
    held = found.words[at, ranks]
    text = np.einsum("nd,nd->n", case.targets.text[at], case.words.text[held]).astype(np.float64)
    aligned = _aligned(case, at, held)
    ranking = pd.DataFrame(
        {
            "target": np.array(case.targets.names, dtype=object)[at],
            "word": words[held],
            "rank": ranks + 1,
            "alignment": aligned,
            "text similarity": text,
            "surprise": aligned - case.usual.alignment(text),
            "p": found.p[at, ranks],
            "q": found.q[at, ranks],
        }
    )
    at_ = np.linspace(text.min(), text.max(), 64)
    usual = pd.DataFrame({"text similarity": at_, "alignment": case.usual.alignment(at_)})
    tests = pd.DataFrame(
        {
            "targets": [len(case.targets.names)],
            "words": [len(case.words.names)],
            "pairs": [found.tests],
            "beyond": [found.beyond],
        }
    )
    return {"ranking": ranking, "pairs": _cloud(case), "usual": usual, "tests": tests, "shared": _shared(case)}


def _shared(case: _Case) -> pd.DataFrame:
    """The words nearest to what all targets have in common; without rows where that is nothing."""
    aligned = np.nan_to_num(case.shared.alignment(case.words)[0], nan=-1.0)
    first = np.argsort(-aligned, kind="stable")[: 5 if case.shared.known[0] else 0]
    return pd.DataFrame({"word": [case.words.names[i] for i in first], "alignment": aligned[first]})


def _aligned(case: _Case, at: Int[np.ndarray, "pairs"], held: Int[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    """Alignments of single pairs, a target at a time."""
    out = np.empty(len(at))
    for target in np.unique(at):
        mine = at == target
        out[mine] = case.targets.take([int(target)]).alignment(case.words.take(held[mine]))[0]
    return out


def _cloud(case: _Case) -> pd.DataFrame:
    """Some of all tested pairs, evenly spaced."""
    every = -(-len(case.targets.names) * len(case.words.names) // (4 * _CLOUD * LEAST))
    parts = []
    for block in blocks(case.targets, case.words, max(1, every)):
        raw, shared = block.raw[block.tested], block.shared[block.tested]
        parts.append(np.stack([block.text[block.tested], raw / shared], axis=1))
    pairs = np.concatenate(parts)
    picked = pairs[:: max(1, -(-len(pairs) // _CLOUD))]
    return pd.DataFrame(picked, columns=["text similarity", "alignment"])


# ---------------------------------------------------------------------------------------------------- planted


def planted(rng: np.random.Generator) -> Planted:
    """Two targets that draw an object nobody named, and one that the text alone explains."""
    odd = {"Monday": "thing 3", "Friday": "thing 7"}

    def latents(odd: Mapping[str, str]) -> dict[Reading, Latents]:
        return {reading: _drawn(rng, odd, reading) for reading in READINGS}

    def wrong(found: Sequence[Finding]) -> list[str]:
        out = {(f.reading, f.target, f.value) for f in found if f.verdict == STANDS_OUT}
        asked = {(r, target, word) for r in READINGS for target, word in odd.items()}
        return [f"missed: {pair}" for pair in asked - out] + [
            f"explained: {pair}" for pair in out if pair[1:] == ("riding", "thing 5")
        ]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict == STANDS_OUT for f in found)

    return Planted(latents(odd), {}, wrong, latents({}), claims)


def _drawn(rng: np.random.Generator, odd: Mapping[str, str], reading: Reading) -> Latents:
    """Words whose latents follow their texts in part; `odd` targets draw what a word draws, too."""
    n_seeds, width, dim = 16, 64, 24
    words = [f"thing {i}" for i in range(60)]
    targets = ["Monday", "Friday", "riding", *(f"plain {i}" for i in range(7))]
    text = {name: rng.normal(size=dim) for name in (*words, *targets)}
    text["riding"] = text["thing 5"] + 0.3 * rng.normal(size=dim)
    told, shared = rng.normal(size=(dim, width)) / np.sqrt(dim), rng.normal(size=(n_seeds, width))
    drawn = {name: rng.normal(size=width) + 1.5 * text[name] @ told for name in (*words, *targets)}
    drawn |= {target: drawn[target] + 2 * drawn[word] for target, word in odd.items()}
    prompts, values, embeddings = [], [], []
    for name in (*targets, *words):
        for template in ("0", "1"):
            prompts.append(Prompt(f"{name} {template}", name, template, role="word" if name in words else "concept"))
            values.append(drawn[name] + shared + rng.normal(size=(n_seeds, width)))
            embeddings.append(text[name] + 0.1 * rng.normal(size=dim))
    return Latents(
        np.array(values)[:, :, None].astype(np.float32),
        tuple(prompts),
        tuple(range(n_seeds)),
        (0,),
        reading,
        np.array(embeddings),
    )
