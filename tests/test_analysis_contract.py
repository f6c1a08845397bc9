"""What every analysis keeps, ours or another's: it finds what was planted, claims little where nothing was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from scalex import analyses
from scalex.analyses._planted import Planted
from scalex.errors import ScalexError
from scalex.records import READINGS, ROLES, VARIED, Finding, Latents, Reading, Rules

RULES = Rules(resamples=500, permutations=1999)
NULLS = 20
ALARMS = 4  # P(more than 4 of 20 at 5 %) = 0.003

every = pytest.mark.parametrize("name", list(analyses.available()))


def member(name: str) -> Any:
    return analyses.available()[name]


@cache
def case(name: str, seed: int = 0) -> Planted:
    made: Planted = member(name).planted(np.random.default_rng(seed))
    return made


def run(name: str, latents: Mapping[Reading, Latents]) -> list[Finding]:
    return analyses.run([name], latents, case(name).attributes, RULES)


@cache
def found(name: str) -> list[Finding]:
    return run(name, case(name).latents)


@every
def test_the_module_says_what_it_takes(name: str) -> None:
    analysis = member(name)
    assert name == analysis.NAME
    assert analysis.READINGS
    assert set(analysis.READINGS) <= set(READINGS)
    assert set(analyses.roles([name])) <= set(ROLES)
    assert set(analyses.variants([name])) <= set(VARIED)
    assert set(case(name).latents) == set(analysis.READINGS)


@every
def test_what_was_planted_is_found(name: str) -> None:
    assert found(name)
    assert case(name).wrong(found(name)) == []
    assert case(name).claims(found(name)) > 0


@every
def test_a_planted_answer_can_be_missed(name: str) -> None:
    """`wrong` must be able to complain: it does where nothing was planted."""
    assert case(name).wrong(run(name, case(name).null))


@every
def test_means_over_blocks_of_seeds_will_do_where_it_says_so(name: str) -> None:
    blocks = {r: by_blocks(x, 2) for r, x in case(name).latents.items()}
    if name in analyses.means([name]):
        seen = run(name, blocks)
        assert case(name).wrong(seen) == []
        assert {f.n_seeds for f in seen} == {f.n_seeds for f in found(name)}
    else:
        with pytest.raises(ScalexError, match=f"analysis '{name}' takes single seeds"):
            run(name, blocks)


def by_blocks(latents: Latents, size: int) -> Latents:
    """As a store of moments gives them."""
    prompts, seeds, *rest = latents.values.shape
    values = latents.values.reshape(prompts, seeds // size, size, *rest).mean(2)
    return replace(latents, values=values, seeds=latents.seeds[::size], block=size)


@every
def test_findings_are_whole(name: str) -> None:
    for f in found(name):
        assert f.analysis == name
        assert f.verdict
        assert f.reason
        assert f.n_seeds > 0
        numbers = (f.estimate, f.low, f.high)
        assert f.low <= f.estimate <= f.high or any(map(math.isnan, numbers))
        assert not math.isinf(sum(numbers))
        assert math.isnan(f.q) or f.q >= f.p > 0


@every
def test_only_the_variants_that_it_names_are_taken(name: str) -> None:
    """An audit captures no others, so without them the findings are the same."""
    taken = analyses.variants([name])
    planted = case(name).latents
    kept = {
        r: [p.role in taken or not p.attribute or p.role == "wording" for p in x.prompts] for r, x in planted.items()
    }
    some = {r: without(x, kept[r]) for r, x in planted.items()}
    assert list(map(repr, run(name, some))) == list(map(repr, found(name)))


def without(latents: Latents, kept: list[bool]) -> Latents:
    embeddings = None if latents.embeddings is None else latents.embeddings[kept]
    prompts = tuple(p for p, keep in zip(latents.prompts, kept) if keep)
    return replace(latents, values=latents.values[kept], prompts=prompts, embeddings=embeddings)


@every
def test_no_row_is_there_twice(name: str) -> None:
    keys = [(f.reading, f.target, f.attribute, f.value, f.unit) for f in found(name)]
    assert len(set(keys)) == len(keys)


@every
def test_the_same_latents_give_the_same_findings(name: str) -> None:
    assert list(map(repr, run(name, case(name).latents))) == list(map(repr, found(name)))


@every
def test_where_nothing_is_planted_little_is_claimed(name: str) -> None:
    nulls = [member(name).planted(np.random.default_rng(1000 + i)) for i in range(NULLS)]
    alarms = sum(null.claims(run(name, null.null)) > 0 for null in nulls)
    assert alarms <= ALARMS


@every
def test_latents_that_are_all_the_same_give_a_reason_and_no_number(name: str) -> None:
    same = {r: replace(x, values=np.ones_like(x.values)) for r, x in case(name).latents.items()}
    rows = run(name, same)
    assert case(name).claims(rows) == 0
    for f in rows:
        assert f.reason
        assert math.isnan(f.p) or f.p > 0.05


@every
def test_reading_only_the_first_seeds_is_possible(name: str) -> None:
    few = {r: replace(x, values=x.values[:, :4], seeds=x.seeds[:4]) for r, x in case(name).latents.items()}
    assert all(f.n_seeds == 4 for f in run(name, few))


@pytest.mark.parametrize("name", [n for n in analyses.available() if isinstance(member(n), analyses.Between)])
def test_what_models_are_compared_by_is_what_the_findings_say(name: str) -> None:
    analysis, attributes = member(name), case(name).attributes
    x = case(name).latents
    one_by_one = not isinstance(analysis, analyses.Comparison)
    told = {(f.target, f.attribute, f.value, f.unit): f for f in found(name) if f.reading in ("picture", "both")}
    own: Any = x["picture"] if one_by_one else x
    rows = list(analysis.between(own, own, attributes, RULES))
    assert rows
    keys = [(s.target, s.attribute, s.value, s.unit) for s in rows]
    assert len(set(keys)) == len(keys)
    assert set(keys) & set(told), "what is found can be compared"
    for key, scored in zip(keys, rows):
        assert np.array_equal(scored.first, scored.second)
        if key in told:
            assert scored.first.mean() == pytest.approx(told[key].estimate, rel=1e-6, abs=1e-9)
