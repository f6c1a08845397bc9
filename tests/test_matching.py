"""What moved beyond leans: planted movements are found and no others, and what must not be compared says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from scalex import analyses, matching
from scalex.analyses import associations, clusters, descriptors
from scalex.matching import Held, Matched, compare_findings
from scalex.records import READINGS, Finding, Latents, Prompt, Reading, Role, Rules

RULES = Rules(resamples=300, permutations=1999)
GENDER = {"gender": ("man", "woman")}
COLUMNS = list(Finding.columns())
Placed = Mapping[tuple[Role, str, str], np.ndarray]


def _latents(places: Placed, seed: int, *, first: int = 0, n_seeds: int = 32, texts: int = 0) -> Latents:
    """Latents around these places, with noise that the prompts of a seed share, and noise of their own."""
    rng = np.random.default_rng(seed)
    width = len(next(iter(places.values())))
    shared = 4 + rng.normal(size=(n_seeds, width))
    prompts, rows = [], []
    for (role, name, value), place in places.items():
        rows.append(shared + place + rng.normal(size=(2, n_seeds, width)))
        prompts += [Prompt(f"{value} {name} {t}", name, str(t), "gender" * bool(value), value, role) for t in range(2)]
    embeddings = None
    if texts:
        said = np.random.default_rng(texts).normal(size=(len(places), 16))
        embeddings = np.repeat(said, 2, axis=0).astype(np.float32)
    values = np.concatenate(rows)[:, :, None].astype(np.float32)
    return Latents(values, tuple(prompts), tuple(range(first, first + n_seeds)), (0,), "picture", embeddings)


def _held(latents: Latents, *names: str, attributes: Mapping[str, Sequence[str]] = GENDER) -> Held:
    out = analyses.explore(names, {"picture": latents}, attributes, RULES)
    return Held(_table(out.findings), out.tables, latents.prompts, {"picture": latents})


def _table(findings: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame([asdict(f) for f in findings], columns=COLUMNS)


def _compared(first: Held, second: Held, attributes: Mapping[str, Sequence[str]] = GENDER) -> Matched:
    return compare_findings(first, second, attributes, RULES, lambda _: True)


def _moved(found: Matched) -> list[tuple[str, str, str]]:
    return [(f.target, f.value, f.verdict) for f in found.findings if f.verdict.startswith("moved")]


# ------------------------------------------------------------------------------------------------------ descriptors


def _words(bossy: float, *, person: str = "person") -> Placed:
    """Descriptors of a person; man and woman lie 8 apart, and `bossy` a part of the way to the woman."""
    axes = 4 * np.eye(12)
    return {
        ("concept", "bossy", ""): bossy * axes[0] + 0.3 * axes[1],
        ("concept", "calm", ""): 0.3 * axes[2],
        ("concept", "brave", ""): -0.5 * axes[0] + 0.3 * axes[3],
        ("reference", person, ""): 0 * axes[0],
        ("reference", person, "man"): -axes[0],
        ("reference", person, "woman"): axes[0],
    }


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_a_pull_that_moved_is_found_and_no_other(first_seed: int) -> None:
    before = _held(_latents(_words(-0.6), 1), "descriptors")
    after = _held(_latents(_words(0.6), 2, first=first_seed), "descriptors")
    found = _compared(before, after)
    assert _moved(found) == [("bossy", "woman", "moved towards woman")]
    assert {f.analysis for f in found.findings} == {"compare descriptors"}
    assert {f.unit for f in found.findings} == {"pull difference"}
    [row] = [f for f in found.findings if f.target == "bossy"]
    assert row.estimate == pytest.approx(1.2, abs=0.25)
    assert row.low < 1.2 < row.high
    assert found.sides["second"][0] - found.sides["first"][0] == pytest.approx(row.estimate)
    assert ("32 seeds against 32 others, unpaired" in row.reason) == (first_seed > 0)
    assert not found.notes
    back = _compared(after, before)
    assert _moved(back) == [("bossy", "woman", "moved towards man")]


def test_pulls_that_stayed_are_shown_to_have_stayed() -> None:
    one = _held(_latents(_words(0.5), 1, n_seeds=96), "descriptors")
    other = _held(_latents(_words(0.5), 2, n_seeds=96, first=500), "descriptors")
    found = _compared(one, other)
    assert {f.verdict for f in found.findings} == {"did not move"}
    assert all("within 0.2 of no change" in f.reason for f in found.findings)


def test_the_same_latents_have_not_moved() -> None:
    same = _held(_latents(_words(0.5), 1), "descriptors")
    found = _compared(same, same)
    assert len(found.findings) == 3
    for f in found.findings:
        assert (f.estimate, f.low, f.high, f.p, f.verdict) == (0, 0, 0, 1, "did not move")


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_models_alike_seldom_move(first_seed: int) -> None:
    """One family at q 0.05: at most 5 % of comparisons hold a mover. P(more than 4 of 20) is then 0.003."""
    alarms = 0
    for i in range(20):
        one, other = (
            _held(_latents(_words(0.3), seed, n_seeds=16, first=first), "descriptors")
            for seed, first in ((i, 0), (700 + i, first_seed))
        )
        alarms += bool(_moved(_compared(one, other)))
    assert alarms <= 4


def test_shared_seeds_show_more() -> None:
    before = _latents(_words(0.3), 5)
    noise = np.random.default_rng(6).normal(scale=0.2, size=before.values.shape).astype(np.float32)
    after = replace(before, values=before.values + noise)
    wide, narrow = (
        np.mean([f.high - f.low for f in _compared(_held(before, "descriptors"), _held(x, "descriptors")).findings])
        for x in (replace(after, seeds=tuple(range(900, 932))), after)
    )
    assert narrow < wide / 3


def test_another_reference_is_noted_and_not_compared() -> None:
    one = _held(_latents(_words(0.5), 1), "descriptors")
    other = _held(_latents(_words(-0.5, person="human"), 1), "descriptors")
    found = _compared(one, other)
    assert found.findings == []
    assert found.notes == [
        "The findings of descriptors are not compared: the two runs were asked with other references."
    ]


def test_weat_is_over_the_words_that_both_models_have() -> None:
    """A word that one model does not express leaves the comparison of a group, not only its own."""
    axes = 4 * np.eye(24)
    groups = descriptors.groups_of([f"{w} person" for w in ("bossy", "gentle", "caring", "brave")])
    assert groups, "words of a built-in vocabulary"
    words = sorted(next(iter(_vocabulary().values())))[:6] + sorted(list(_vocabulary().values())[1])[:6]
    pulls = dict(zip(words, [0.5] * 6 + [-0.5] * 6))
    places = {("concept", w, ""): p * axes[0] + 0.2 * axes[i + 1] for i, (w, p) in enumerate(pulls.items())}
    reference = {k: v for k, v in _words(0.0).items() if k[0] == "reference"}
    reference = {k: np.pad(v, (0, 12)) for k, v in reference.items()}
    one = _latents({**places, **reference}, 1)
    far = {**places, ("concept", words[0], ""): 40 * axes[20]}  # not comparable
    rows = list(descriptors.between(one, _latents({**far, **reference}, 1), GENDER, RULES))
    assert words[0] not in {s.target for s in rows}
    alone = _latents({k: v for k, v in {**places, **reference}.items() if k[1] != words[0]}, 1)
    assert {s.target for s in rows if s.unit == "WEAT d"} == {
        s.target for s in descriptors.between(alone, alone, GENDER, RULES) if s.unit == "WEAT d"
    }


def _vocabulary() -> dict[str, frozenset[str]]:
    from scalex import vocabularies
    from scalex.wording import fill

    held = vocabularies.load_vocabulary("adjectives")
    return {
        group: frozenset(fill(held.frame, w) for w in words) for group, words in held.groups.items() if len(words) > 5
    }


# ------------------------------------------------------------------------------------------------------ associations


def _associated(odd: str, seed: int, *, first: int = 0, drop: int = 0) -> Latents:
    """Targets and words without any relation, but for one target that draws a word."""
    rng = np.random.default_rng(3)
    words = {f"thing {i}": rng.normal(size=48) for i in range(40)}
    targets = {f"day {i}": rng.normal(size=48) for i in range(6)}
    if odd:
        targets["day 2"] = targets["day 2"] + 1.5 * words[odd]
    placed: dict[tuple[Role, str, str], np.ndarray] = {("concept", t, ""): 2 * x for t, x in targets.items()}
    placed |= {("word", w, ""): 2 * x for w, x in list(words.items())[drop:]}
    return _latents(placed, seed, first=first, texts=9)


@pytest.mark.parametrize("first_seed", [0, 500])
def test_a_word_that_one_model_alone_associates_is_found(first_seed: int) -> None:
    before = _held(_associated("", 1), "associations", attributes={})
    after = _held(_associated("thing 7", 2, first=first_seed), "associations", attributes={})
    assert ("day 2", "thing 7", "moved towards thing 7") in _moved(_compared(before, after, {}))
    assert ("day 2", "thing 7", "moved away from thing 7") in _moved(_compared(after, before, {}))


def test_associations_alike_seldom_move() -> None:
    """At most 5 % of comparisons hold a mover. P(more than 4 of 20) is then 0.003."""
    alarms = 0
    for i in range(20):
        pair = [_associated("thing 7", seed, first=first) for seed, first in ((i, 0), (300 + i, 900))]
        alarms += bool(_moved(_compared(*(_held(x, "associations", attributes={}) for x in pair), {})))  # type: ignore[arg-type]
    assert alarms <= 4


def test_the_pairs_are_picked_by_both_models_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one model alone would have moved by having been picked. The order of the two changes nothing."""
    one, other = _associated("thing 7", 1), _associated("", 2)
    rows = list(associations.between(one, other, {}, RULES))
    assert {(s.target, s.value) for s in rows} == {
        (s.target, s.value) for s in associations.between(other, one, {}, RULES)
    }
    assert max(pd.Series([s.target for s in rows]).value_counts()) == 5
    monkeypatch.setattr(associations, "_COMPARED", 7)
    few = list(associations.between(one, other, {}, RULES))
    assert [(s.target, s.value) for s in few] == [(s.target, s.value) for s in rows[:7]]
    assert (few[0].target, few[0].value) == ("day 2", "thing 7"), "the strongest first"


def test_another_vocabulary_is_noted_and_not_compared() -> None:
    one = _held(_associated("thing 7", 1), "associations", attributes={})
    other = _held(_associated("", 1, drop=4), "associations", attributes={})
    found = _compared(one, other, {})
    assert found.findings == []
    why = "the two runs were asked with other words of a vocabulary"
    assert found.notes == [f"The findings of associations are not compared: {why}."]


def test_embeddings_that_were_not_kept_are_a_note() -> None:
    one = _associated("thing 7", 1)
    held = _held(one, "associations", attributes={})
    bare = replace(held, latents={"picture": replace(one, embeddings=None)})
    assert "no text embeddings were kept" in _compared(held, bare, {}).notes[0]


# ------------------------------------------------------------------------------------------------------ by intervals


def _finding(
    estimate: float, half: float, target: str = "cook", analysis: str = "theirs", value: str = "",
    reading: Reading = "picture",
) -> Finding:  # fmt: skip
    nan = math.nan
    labels = (analysis, reading, target, "", value)
    return Finding(*labels, float(estimate), "size", estimate - half, estimate + half, nan, nan, nan, "said", "", 30, 2)


def _run(*findings: Finding, concepts: Sequence[str] = ("cook",), first: int = 0) -> Held:
    placed: dict[tuple[Role, str, str], np.ndarray] = {("concept", name, ""): np.zeros(4) for name in concepts}
    x = _latents(placed, 0, n_seeds=8, first=first)
    return Held(_table(findings), {}, x.prompts, {"picture": x})


def test_findings_of_another_analysis_are_matched_by_name() -> None:
    first = _run(_finding(1.0, 0.3), _finding(1.0, 0.3, target="pilot"), _finding(2.0, 0.1, value="x"))
    second = _run(_finding(3.0, 0.4), _finding(1.0, 0.4, target="pilot"), _finding(2.0, 0.1, value="y"))
    found = _compared(first, second, {})
    assert [f.target for f in found.findings] == ["cook", "pilot"]
    cook, pilot = found.findings
    assert (cook.verdict, cook.estimate) == ("moved up", 2.0)
    assert (cook.low, cook.high) == pytest.approx((1.5, 2.5)), "the root of 0.3 squared and 0.4 squared"
    assert (cook.analysis, cook.unit) == ("compare theirs", "size difference")
    assert (pilot.verdict, pilot.estimate) == ("undecided", 0.0)
    assert all("from both intervals, not paired" in f.reason for f in found.findings)
    assert found.notes == ["Not compared, as they lack a counterpart with a number: findings of theirs, 1."]
    assert _compared(second, first, {}).findings[0].verdict == "moved down"


def test_a_verdict_that_changed_is_no_movement() -> None:
    first, second = _finding(0.4, 0.39), _finding(0.38, 0.4)
    found = _compared(_run(replace(first, verdict="leans")), _run(replace(second, verdict="undecided")), {})
    assert [f.verdict for f in found.findings] == ["undecided"]


def test_a_number_that_one_run_lacks_is_not_compared() -> None:
    found = _compared(_run(_finding(1.0, 0.3)), _run(_finding(math.nan, 0.3)), {})
    assert found.findings == []
    assert len(found.notes) == 1


def test_the_joined_test_is_that_of_two_means() -> None:
    """With 30 seeds each, both intervals Student's: near Welch's, and a little more cautious by fewer degrees."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 30), rng.normal(0.6, 1.5, 30)
    half = [scipy_stats.t.isf(0.025, 29) * x.std(ddof=1) / math.sqrt(30) for x in (a, b)]
    apart = matching._apart(
        *((x.mean() - h, x.mean(), x.mean() + h) for x, h in zip((a, b), half)), 30, RULES
    )  # fmt: skip
    theirs = scipy_stats.ttest_ind(b, a, equal_var=False)
    assert theirs.pvalue < apart.p < theirs.pvalue + 0.01
    assert (apart.low, apart.high) == pytest.approx(theirs.confidence_interval(0.95), abs=0.03)
    assert matching._joined_p(0.5, 0.5, 30, 0.95) == pytest.approx(0.05)
    assert math.isnan(matching._joined_p(0.5, 0.0, 30, 0.95))


def test_the_end_that_faces_no_change_is_the_one_that_counts() -> None:
    """Of lopsided intervals: B far above A, A reaching up and B reaching down."""
    wide = matching._apart((-0.1, 0.0, 0.9), (0.1, 1.0, 1.1), 30, RULES)
    narrow = matching._apart((-0.9, 0.0, 0.1), (0.9, 1.0, 1.9), 30, RULES)
    assert wide.low < 0 < narrow.low
    assert narrow.p < 0.05 < wide.p
    down = matching._apart((0.9, 1.0, 1.9), (-0.9, 0.0, 0.1), 30, RULES)
    assert (down.low, down.high, down.p) == pytest.approx((-narrow.high, -narrow.low, narrow.p))


def test_the_family_is_one_analysis_in_one_reading() -> None:
    sure, null = [_finding(0.0, 0.3, value=str(i)) for i in range(20)], _finding(0.0, 0.3, target="x", analysis="more")
    moved = [replace(f, estimate=0.1, low=-0.2, high=0.4) for f in sure]
    found = _compared(_run(*sure, null), _run(*moved, replace(null, estimate=0.6, low=0.3, high=0.9)), {})
    one = [f for f in found.findings if f.analysis == "compare more"]
    assert [f.q == f.p for f in one] == [True]
    assert one[0].verdict == "moved up"
    text = _finding(0.0, 0.3, target="x", reading="text")
    found = _compared(_run(*sure, text), _run(*moved, replace(text, estimate=0.6, low=0.3, high=0.9)), {})
    assert [f.verdict for f in found.findings if f.reading == "text"] == ["moved up"]


def test_a_small_p_is_not_enough_and_leans_are_left_to_differences() -> None:
    """Of 21 tests one has a p of about 0.02: alone it would have moved."""
    others = [_finding(0.0, 0.3, value=str(i)) for i in range(20)]
    one, lean = _finding(0.0, 0.3, target="x"), _finding(0.0, 0.1, analysis="defaults")
    later = [replace(one, estimate=0.5, low=0.2, high=0.8), replace(lean, estimate=9.0, low=8.0, high=10.0)]
    found = _compared(_run(*others, one, lean), _run(*others, *later, first=50), {})
    [row] = [f for f in found.findings if f.target == "x"]
    assert row.p < 0.05 < row.q
    assert row.verdict == "undecided"
    assert {f.analysis for f in found.findings} == {"compare theirs"}
    alone = _compared(_run(one), _run(later[0], first=50), {}).findings
    assert [f.verdict for f in alone] == ["moved up"]


def test_a_target_that_one_model_does_not_repeat_is_not_picked() -> None:
    one = _associated("thing 7", 1)
    noise = np.random.default_rng(8).normal(size=one.values.shape).astype(np.float32)
    lost = [p.concept == "day 2" for p in one.prompts]
    other = replace(one, values=np.where(np.array(lost)[:, None, None, None], 200 * noise, one.values))
    for pair in ((one, other), (other, one)):
        targets = {s.target for s in associations.between(*pair, {}, RULES)}
        assert targets == {f"day {i}" for i in (0, 1, 3, 4, 5)}


def test_runs_that_asked_other_concepts_are_not_matched() -> None:
    found = _compared(_run(_finding(1, 0.1)), _run(_finding(3, 0.1), concepts=("cook", "pilot")), {})
    assert found.findings == []
    assert found.notes == ["The findings of theirs are not compared: the two runs were asked with other concepts."]


def test_an_analysis_of_one_run_alone_is_noted() -> None:
    found = _compared(_run(_finding(1, 0.1), _finding(1, 0.1, analysis="defaults")), _run(), {})
    assert found.findings == []
    assert found.notes == ["Only A holds findings of theirs, so that these are not compared."]


def test_the_same_finding_by_other_seeds_has_an_interval() -> None:
    same = _compared(_run(_finding(1, 0.1)), _run(_finding(1, 0.1)), {}).findings
    other = _compared(_run(_finding(1, 0.1)), _run(_finding(1, 0.1), first=50), {}).findings
    assert [f.verdict for f in same] == ["did not move"]
    assert [f.verdict for f in other] == ["undecided"]
    assert other[0].high > 0


# ------------------------------------------------------------------------------------------------------ clusters


def test_clusters_and_sensitivity_say_why_they_are_not_compared() -> None:
    known = {name: analyses.available()[name].planted(np.random.default_rng(0)) for name in ("clusters", "sensitivity")}
    for name, planted in known.items():
        out = analyses.explore([name], planted.latents, planted.attributes, RULES)
        held = Held(_table(out.findings), out.tables, planted.latents["picture"].prompts, planted.latents)
        found = _compared(held, held, planted.attributes)
        assert found.findings == []
        assert found.notes[-1].startswith(f"The findings of {name} are not compared: ")
        if name == "clusters":
            assert [n.startswith(f"Clusters in the {r} reading") for r, n in zip(READINGS, found.notes)] == [True, True]
            assert "an adjusted Rand index of 1.00" in found.notes[0]


def test_clusters_are_likened_by_the_names_of_both() -> None:
    table = pd.DataFrame({"name": list("abcdef"), "cluster": [0, 0, 0, 1, 1, 1]})
    other = pd.DataFrame({"name": list("fedcbz"), "cluster": [0, 0, 0, 1, 1, 1]})
    key = "clusters-picture-map"
    [said] = clusters.likened({key: table}, {key: other})
    assert "A and B group the 5 names that both hold with an adjusted Rand index of 1.00" in said
    assert list(clusters.likened({key: table}, {})) == []
    assert list(clusters.likened({key: table}, {key: other.assign(cluster=-1)})) == []
