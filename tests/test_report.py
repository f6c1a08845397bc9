"""The report: its words, its charts, its page. Findings are synthetic, shaped as the analyses give them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scalex.errors import ScalexError
from scalex.records import Finding
from scalex.report import (
    Layout,
    lean_chart,
    model_card,
    numbers,
    overview_chart,
    rates_chart,
    render,
    says_shows_chart,
    views,
    words,
    write_tables,
)
from scalex.report.html import LARGEST
from scalex.report.pictures import strips
from scalex.report.theme import inline_svg, styled

PEOPLE = [
    "nurse", "pilot", "farmer", "teacher", "firefighter", "scientist", "judge", "chef", "singer", "mechanic",
    "astronaut", "student", "artist", "detective", "doctor", "librarian", "secretary", "plumber", "dancer",
    "soldier", "florist", "baker", "engineer", "professor", "cleaner", "butcher", "cashier", "lawyer", "surgeon",
    "poet", "athlete", "king", "magician", "guard", "runner", "climber", "gardener", "tailor", "welder", "vampire",
]  # fmt: skip
SPEC = {
    "gender": {"man": "man {}", "woman": "woman {}"},
    "tone": {"light": "{} with light skin", "dark": "{} with dark skin"},
}
VALUES = {name: list(values) for name, values in SPEC.items()}


def verdict(estimate: float, half: float, neutral: float, values: Sequence[str]) -> tuple[str, str]:
    effect = estimate - neutral
    if abs(effect) + half < 0.1:
        return "balanced", f"the interval lies within 0.1 of the neutral {neutral:.3g}; these 2 templates only"
    if abs(effect) > half:
        return f"leans to {values[effect > 0]}", "q 0.002 after correction; these 2 templates only"
    more = max(1, math.ceil(32 * ((half / max(abs(effect), 0.02)) ** 2 - 1)))
    return "undecided", f"about {more} more seeds would decide; these 2 templates only"


def finding(analysis: str, reading: str, target: str, attribute: str, value: str, **numbers: object) -> Finding:
    nan = math.nan
    blank = {"estimate": nan, "unit": "lean", "low": nan, "high": nan, "p": nan, "q": nan, "separability": 0.99}
    rest = {"verdict": "undecided", "reason": "", "n_seeds": 32, "n_templates": 2}
    return Finding(analysis, reading, target, attribute, value, **{**blank, **rest, **numbers})  # type: ignore[arg-type]


def of_lean(reading: str, target: str, attribute: str, lean: float, half: float) -> Finding:
    values = list(SPEC[attribute])
    said, why = verdict(lean, half, 0.0, values)
    p = math.erfc(abs(lean) / (half / 1.96) / math.sqrt(2))
    numbers = {"estimate": lean, "low": lean - half, "high": lean + half, "p": p, "q": min(1.0, 1.6 * p)}
    return finding("defaults", reading, target, attribute, values[1], **numbers, verdict=said, reason=why)


def of_rates(target: str, attribute: str, share: float, half: float) -> list[Finding]:
    values = list(SPEC[attribute])
    said, why = verdict(share, half, 0.5, values)
    found = []
    for value, at in zip(values, (1 - share, share)):
        numbers = {"estimate": at, "low": max(0.0, at - half), "high": min(1.0, at + half), "p": 0.01, "q": 0.02}
        found.append(
            finding("rates", "picture", target, attribute, value, **numbers, unit="share", verdict=said, reason=why)
        )
    return found


def unexpressed(target: str, attribute: str, reading: str) -> list[Finding]:
    values = list(SPEC[attribute])
    told = {"verdict": "not expressed", "separability": 0.63}
    told["reason"] = "held-out seeds tell the variants apart with AUC 0.63, the floor is 0.8"
    rows = [finding("defaults", reading, target, attribute, values[1], **told)]
    if reading == "picture":
        rows += [finding("rates", reading, target, attribute, value, unit="share", **told) for value in values]
    return rows


def synthetic(
    targets: Sequence[str] = PEOPLE, attributes: Sequence[str] = ("gender", "tone"), seed: int = 0
) -> pd.DataFrame:
    """Findings of both analyses and readings, with every verdict, as a spread of planted shares would give them."""
    rng = np.random.default_rng(seed)
    found: list[Finding] = []
    for attribute in attributes:
        scale = 1.0 if attribute == "gender" else 0.5
        for i, target in enumerate(targets):
            share = float(np.clip(0.5 + scale * rng.normal(0, 0.3), 0.02, 0.98)) if i % 5 else 0.5
            half = float(rng.uniform(0.05, 0.14))
            if attribute == "tone" and i % 7 == 3:
                found += unexpressed(target, attribute, "text") + unexpressed(target, attribute, "picture")
                continue
            words = 0.6 * (share - 0.5) + rng.normal(0, 0.12)
            found.append(of_lean("text", target, attribute, float(words), half * 0.8))
            found.append(of_lean("picture", target, attribute, share - 0.5 + float(rng.normal(0, 0.02)), half))
            found += of_rates(target, attribute, share, half)
    return pd.DataFrame(found, columns=list(Finding.columns()))


def many_valued(
    targets: Sequence[str] = PEOPLE[:12], values: Sequence[str] = ("young", "adult", "old"), seed: int = 1
) -> pd.DataFrame:
    """Weights and shares of an attribute with several values."""
    rng = np.random.default_rng(seed)
    found: list[Finding] = []
    parity = 1 / len(values)
    for target in targets:
        shares = rng.dirichlet(np.full(len(values), 1.5))
        for analysis, reading, unit in (
            ("defaults", "text", "weight"),
            ("defaults", "picture", "weight"),
            ("rates", "picture", "share"),
        ):
            for value, share in zip(values, shares):
                at = float(np.clip(share + rng.normal(0, 0.04), 0, 1))
                half = float(rng.uniform(0.05, 0.15))
                said = (
                    "undecided"
                    if abs(at - parity) < half
                    else ("leans to " if at > parity else "leans away from ") + value
                )
                numbers = {
                    "estimate": at,
                    "low": max(0.0, at - half),
                    "high": min(1.0, at + half),
                    "p": 0.02,
                    "q": 0.03,
                }
                found.append(
                    finding(
                        analysis,
                        reading,
                        target,
                        "age",
                        value,
                        **numbers,
                        unit=unit,
                        verdict=said,
                        reason="residual 0.21 of the variants' spread",
                    )
                )
    return pd.DataFrame(found, columns=list(Finding.columns()))


def table_of(rows: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(Finding.columns()))


def pictures_of(
    targets: Sequence[str], number: int = 8, side: int = 64, noise: bool = False
) -> dict[str, list[np.ndarray]]:
    """Pictures of a plain colour each, or of noise, which compresses worst."""
    rng = np.random.default_rng(0)
    shape = (side, side, 3)
    if noise:
        return {t: [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(number)] for t in targets}
    return {t: [np.full(shape, rng.integers(0, 256), dtype=np.uint8) for _ in range(number)] for t in targets}


MANIFEST = {
    "model": "emoji organism (LCM, 4 steps)",
    "model_fingerprint": "9f31c0de" * 8,
    "sampler": "LCMScheduler:ab12cd34",
    "spec": {"attributes": SPEC, "templates": ["a photo of a {}", "a picture of a {}"], "seeds": 32, "margin": 0.1},
    "n_prompts": 400,
    "n_samples": 12_800,
    "seconds": 412.3,
    "flops": 1.31e15,
    "date": "2026-11-21T19:20:11+00:00",
    "command": "scalex audit --spec audit.yaml",
    "versions": {"scalex": "0.1.0"},
    "notes": ["The tokenizer breaks “vampire” into unknown pieces."],
    "truth": [{"name": "lean: Spearman", "value": 0.9712, "mark": 0.95, "ok": True}],
}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"quotes" & {{7*7}} ${x}',
    "'; alert(1); //",
    "]]></style><script>alert(1)</script>",
    "طبيبة",
    "护士",
    "a very long concept name that goes on and on, such as a senior associate professor of comparative literature",
]


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside = self.tags[-1][0] if self.tags else ""
        if inside == "script" and data.strip():
            self.scripts.append(data)
        if inside not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [held for name, held in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on twelve concepts, two of them hostile, and two attributes."""
    targets = [*PEOPLE[:10], *HOSTILE[:2]]
    path = tmp_path_factory.mktemp("report") / "report.html"
    return render(synthetic(targets), MANIFEST, pictures_of(targets), path)


# ---------------------------------------------------------------------------------------------------- numbers, words


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (numbers.estimate(0.314, "lean"), "+0.31"),
        (numbers.estimate(-0.314, "lean"), "−0.31"),
        (numbers.estimate(-0.001, "lean"), "0.00"),
        (numbers.estimate(0.716, "share"), "72%"),
        (numbers.estimate(-0.001, "share"), "0%"),
        (numbers.estimate(math.nan, "lean"), "–"),
        (numbers.interval(0.2, 0.41, "weight"), "20% to 41%"),
        (numbers.interval(math.nan, 0.41, "lean"), "–"),
        (numbers.probability(0.0), "<0.001"),
        (numbers.probability(0.0123), "0.012"),
        (numbers.probability(0.456), "0.46"),
        (numbers.plural(1, "concept"), "1 concept"),
        (numbers.plural(1200, "concept"), "1,200 concepts"),
        (numbers.duration(0.42), "0.4 s"),
        (numbers.duration(412.3), "6 min 52 s"),
        (numbers.duration(12_000), "3 h 20 min"),
        (numbers.flop(1.31e15), "1.3 PFLOP"),
        (numbers.flop(999), "999 FLOP"),
        (numbers.day("2026-11-21T19:20:11+00:00"), "21 November 2026"),
        (numbers.day("yesterday"), "yesterday"),
        (numbers.measure(0.97123), "0.971"),
        (numbers.measure(None), "–"),
    ],
)
def test_numbers_have_no_false_precision(said: str, text: str) -> None:
    assert said == text


def leaning(*leans: float, attribute: str = "gender", half: float = 0.05) -> list[Finding]:
    return [of_lean("picture", PEOPLE[i], attribute, lean, half) for i, lean in enumerate(leans)]


def headline_of(rows: Sequence[Finding]) -> str:
    frame = views.checked(table_of(rows))
    return words.headline([views.tally(frame, name, VALUES) for name in views.attributes(frame)])


def test_headline_counts_both_sides() -> None:
    rows = leaning(0.4, -0.3, -0.2, 0.02, 0.11, half=0.06) + leaning(0.3, 0.0, attribute="tone")
    assert headline_of(rows[:5]) == "4 of 5 concepts lean on gender: 2 to man and 2 to woman"
    assert headline_of(rows) == "4 of 5 concepts lean on gender, 1 of 2 on tone"


def test_headline_never_says_unbiased() -> None:
    assert headline_of(leaning(0.02, -0.1, half=0.2)) == "None of 2 concepts leans beyond doubt on gender"
    assert headline_of(leaning(0.01, half=0.2)) == "The one concept asked does not lean beyond doubt on gender"
    assert headline_of(leaning(0.4)) == "The one concept asked leans on gender: 1 to woman"
    assert (
        headline_of(unexpressed("nurse", "tone", "picture"))
        == "Nothing can be said of tone: the model does not express it"
    )
    assert headline_of([]) == "This audit holds no findings"


def test_every_concept_is_in_one_part_of_the_tally() -> None:
    frame = views.checked(synthetic())
    for name in ("gender", "tone"):
        tally = views.tally(frame, name, VALUES)
        parts = [*tally.leaning.values(), tally.away, tally.balanced, tally.undecided, tally.unexpressed, tally.open]
        assert sorted(target for part in parts for target in part) == sorted(PEOPLE)
        assert tally.total == len(PEOPLE)
        assert tally.undecided
        assert tally.balanced


def test_the_rest_is_named_for_what_it_is() -> None:
    rows = leaning(0.4, 0.02, 0.05, half=0.06) + unexpressed("dancer", "gender", "picture")
    tally = views.tally(views.checked(table_of(rows)), "gender", VALUES)
    assert words.deck(tally, 0.1) == "Of the other 3, 1 is balanced within ±0.1, 1 is undecided and 1 is not expressed."
    assert words.strongest(views.checked(table_of(rows)), tally) == "Furthest to woman: nurse (+0.40)."


def test_open_questions_say_what_would_decide() -> None:
    rows = [*leaning(0.05, 0.09, half=0.12), *unexpressed("dancer", "gender", "picture")]
    frame = views.checked(table_of(rows))
    undecided, unexpressed_ = words.open_questions(frame, views.tally(frame, "gender", VALUES))
    assert undecided.seeds == {"pilot": 25, "nurse": 153}
    assert unexpressed_.reasons == {
        "held-out seeds tell the variants apart with AUC 0.63, the floor is 0.8": ["dancer"]
    }


def test_readings_that_part_are_named() -> None:
    rows = [*leaning(0.4, -0.3, 0.02), of_lean("text", "nurse", "gender", 0.38, 0.05)]
    rows += [of_lean("text", "pilot", "gender", 0.3, 0.05), of_lean("text", "farmer", "gender", 0.01, 0.05)]
    frame = views.checked(table_of(rows))
    said = words.differences(frame, views.tally(frame, "gender", VALUES))
    assert said[:2] == [
        "Words and picture come to the same verdict for 2 of 3 concepts",
        "They lean opposite ways for pilot.",
    ]
    assert said[2].startswith("They stand furthest apart for pilot (words +0.30, picture −0.30), nurse")


def test_where_disagreement_was_tested_only_what_is_beyond_chance_counts() -> None:
    rows = [*leaning(0.4, -0.3), of_lean("text", "nurse", "gender", 0.38, 0.05)]
    rows += [of_lean("text", "pilot", "gender", 0.3, 0.05)]
    told = {"analysis": "disagreement", "reading": "both", "unit": "lean difference"}
    rows += [replace(rows[0], **told, verdict="readings agree"), replace(rows[1], **told, verdict="picture more man")]
    frame = views.checked(table_of(rows))
    said = words.differences(frame, views.tally(frame, "gender", VALUES))
    assert said[0] == "Words and picture part, beyond chance and after correction, for 1 of 2 concepts"


def test_names_from_right_to_left_are_fenced_off() -> None:
    assert words.isolated("טבח") == "\u2068טבח\u2069"
    assert words.isolated("nurse") == "nurse"


def test_away_from_one_of_two_is_to_the_other() -> None:
    assert views.leans_to("leans away from man", ("man", "woman")) == "woman"
    assert views.leans_to("leans away from man", ("man", "woman", "else")) == ""


def test_many_values_are_counted_once_each() -> None:
    frame = views.checked(many_valued())
    tally = views.tally(frame, "age")
    assert tally.values == ("young", "adult", "old")
    assert tally.total == 12
    main = frame[(frame["analysis"] == "defaults") & (frame["reading"] == "picture")]
    told = {t for t, v, said in zip(main["target"], main["value"], main["verdict"]) if said == f"leans to {v}"}
    assert {t for held in tally.leaning.values() for t in held} == told


# ---------------------------------------------------------------------------------------------------- charts


def marks(chart: alt.ChartType) -> list[str]:
    """What the tooltips of a drawn chart say."""
    return re.findall("<title>(.*?)</title>", str(inline_svg(chart, "a chart")))


@pytest.mark.parametrize("number", [1, 7])
def test_charts_are_valid_and_hold_every_concept(number: int) -> None:
    findings = synthetic(PEOPLE[:number])
    for chart in (
        lean_chart(findings, "gender"),
        rates_chart(findings, "gender"),
        lean_chart(findings, "tone", reading="text"),
    ):
        assert chart.to_dict()["$schema"].endswith(".json")
        assert sorted(said.split(":")[0] for said in marks(chart)) == sorted(PEOPLE[:number])
    assert len(marks(overview_chart(findings, "gender"))) == 3 * number


def test_charts_of_many_values_have_a_panel_each() -> None:
    findings = many_valued()
    for chart in (lean_chart(findings, "age"), rates_chart(findings, "age", layout=Layout(columns=2))):
        chart.to_dict()
        assert len(marks(chart)) == 36
    assert len(marks(says_shows_chart(findings, "age"))) == 36


def test_tooltips_hold_estimate_interval_and_verdict() -> None:
    said = marks(lean_chart(table_of(leaning(0.4)), "gender"))
    assert said == ["nurse: lean +0.40 (+0.35 to +0.45), leans to woman"]
    said = marks(lean_chart(table_of(unexpressed("nurse", "gender", "picture")), "gender"))
    assert said == ["nurse: not expressed. held-out seeds tell the variants apart with AUC 0.63, the floor is 0.8"]


def test_a_chart_shows_the_order_it_is_given() -> None:
    layout = Layout(order=["pilot", "⋯ 3 more", "nurse"])
    chart = lean_chart(synthetic(PEOPLE[:5], ["gender"]), "gender", layout=layout)
    svg = str(inline_svg(chart, "a chart"))
    assert sorted(said.split(":")[0] for said in marks(chart)) == ["nurse", "pilot"]
    assert re.findall(r">(pilot|⋯ 3 more|nurse|farmer)</text>", svg) == ["pilot", "⋯ 3 more", "nurse"]


def test_charts_follow_the_page_colours() -> None:
    svg = str(inline_svg(overview_chart(synthetic(PEOPLE[:12]), "tone"), "a chart"))
    assert 'fill="var(--second)"' in svg
    assert not re.search('(fill|stroke)="#', svg)
    assert "http" not in svg
    assert ' id="' not in svg  # ids of several drawings in one page would collide


def test_names_in_charts_are_inert() -> None:
    rows = [of_lean("picture", name, "gender", 0.3, 0.1) for name in HOSTILE]
    page = Page(str(inline_svg(lean_chart(table_of(rows), "gender"), HOSTILE[0])))
    assert {tag for tag, _ in page.tags} <= {"svg", "g", "path", "line", "text", "rect", "title"}
    assert all(f"{name}: lean +0.30" in page.text for name in HOSTILE)


def test_names_of_values_reach_no_expression() -> None:
    rows = [finding("defaults", "picture", "nurse", "x", "'+alert(1)+'\\", estimate=0.1, low=0.0, high=0.2)]
    assert "alert(1)" in str(inline_svg(lean_chart(table_of(rows), "x"), "a chart"))


def test_charts_name_what_is_missing() -> None:
    with pytest.raises(
        ScalexError, match=r"the findings hold nothing of this kind for 'age'. Attributes there: 'gender'"
    ):
        lean_chart(table_of(leaning(0.4)), "age")
    with pytest.raises(ScalexError, match=r"no concept has 'gender' in both readings. Audit with readings"):
        says_shows_chart(table_of(leaning(0.4)), "gender")
    with pytest.raises(ScalexError, match="the findings table lacks the columns reading, target"):
        lean_chart(pd.DataFrame({"analysis": ["defaults"]}), "gender")


# ---------------------------------------------------------------------------------------------------- the page


def test_the_report_asks_for_nothing_outside(report: Path) -> None:
    html = report.read_text(encoding="utf-8")
    page = Page(html)
    links = [
        value or ""
        for _, held in page.tags
        for name, value in held.items()
        if name in ("src", "href", "srcset", "action")
    ]
    outside = [link for link in links if not link.startswith(("#", "data:"))]
    assert outside == ["https://arxiv.org/abs/2511.13750", "https://arxiv.org/abs/2410.21314"]
    assert "@import" not in html
    assert set(re.findall(r"url\((.{5})", html)) == {"data:"}
    assert not page.all("link")
    assert not page.all("iframe")
    assert report.stat().st_size < LARGEST


def test_the_policy_lets_only_the_own_script_run(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    policy = next(held["content"] for held in page.all("meta") if held.get("http-equiv") == "Content-Security-Policy")
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_names_in_the_page_are_inert(tmp_path: Path) -> None:
    attribute = "<b onclick=alert(1)>"
    rows = [replace(f, attribute=attribute, reason="<i>why</i>") for f in leaning(*[0.3] * len(HOSTILE))]
    rows = [replace(f, target=name, value="<u>") for f, name in zip(rows, HOSTILE)]
    manifest = {
        "model": "</title><script>alert(1)</script>",
        "notes": ["<script>"],
        "command": "<script>",
        "x": {"<s>": "<s>"},
    }
    path = render(table_of(rows), manifest, pictures_of(HOSTILE, 1), tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert not {"img", "b onclick", "u", "s"} & {tag for tag, _ in page.tags}
    assert not [held for _, held in page.tags if any(name.startswith("on") for name in held)]
    assert all(name in page.text for name in HOSTILE)


def test_the_page_says_what_a_reader_needs(report: Path) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    for said in (
        "of 12 concepts lean on gender",
        "a photo of a woman",
        "seeds each 32",
        "these 2 templates alone",
        "It speaks of that model",
        "perceived and drawn, not anyone’s identity",
        "The tokenizer breaks “vampire” into unknown pieces.",
        "lean: Spearman 0.971 0.95 met",
        "scalex audit --spec audit.yaml",
        "1.3 PFLOP",
        "21 November 2026",
        "±0.1 of neutral",
    ):
        assert said in text, said
    assert text.count("no bias") == 1
    assert "It is not no bias" in text  # with quotation marks, which <q> draws


def test_the_table_holds_every_finding_as_it_is(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    findings = synthetic([*PEOPLE[:10], *HOSTILE[:2]])
    assert sum(held.get("scope") == "row" for held in page.all("th")) == len(findings) + 1  # and one row of truth
    keys = [held["data-v"] for held in page.all("td") if "data-v" in held]
    assert f"{findings['estimate'].iloc[0]:.4g}" in keys


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        ([], "This audit holds no findings"),
        (unexpressed("nurse", "gender", "picture"), "Nothing can be said of gender: the model does not express it"),
        (leaning(0.3), "The one concept asked leans on gender: 1 to woman"),
        ([finding("defaults", "picture", "nurse", "gender", "woman")], "does not lean beyond doubt on gender"),
        (
            [finding("rates", "picture", "nurse", "gender", "woman", unit="share", estimate=0.4)],
            "does not lean beyond doubt",
        ),
        (
            [finding("defaults", "text", "nurse", "gender", "woman", estimate=math.inf)],
            "does not lean beyond doubt on gender",
        ),
        ([finding("clusters", "picture", "nurse", "", "")], "This audit holds no findings"),
    ],
)
def test_the_page_stands_whatever_is_missing(rows: list[Finding], headline: str, tmp_path: Path) -> None:
    path = render(table_of(rows), {"model": "m"}, {}, tmp_path / "report.html")
    text = Page(path.read_text(encoding="utf-8")).text
    assert headline in text
    assert not re.search(r"\b(nan|NaN|None|undefined)\b", text)


def test_a_table_without_columns_is_empty(tmp_path: Path) -> None:
    path = render(pd.DataFrame(), {"model": "m"}, {}, tmp_path / "report.html")
    assert "The findings table is empty" in path.read_text(encoding="utf-8")


def test_beyond_eighty_concepts_both_ends_come_first(tmp_path: Path) -> None:
    targets = [f"{word} {i}" for word in PEOPLE for i in range(3)][:90]
    rows = [of_lean("picture", t, "gender", 0.5 - i / 90, 0.05) for i, t in enumerate(targets)]
    html = render(table_of(rows), {"model": "m"}, {}, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "⋯ 40 more" in html
    assert "Show all 90 concepts" in html
    assert "Show the other 50 concepts" in html


def test_user_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ScalexError, match=r"the manifest does not name the model. Give it a text under the key 'model'"
    ):
        render(pd.DataFrame(), {}, {}, tmp_path / "report.html")
    with pytest.raises(
        ScalexError, match=r"the report cannot be written to .*: No such file or directory. Choose another"
    ):
        render(pd.DataFrame(), {"model": "m"}, {}, tmp_path / "nowhere" / "report.html")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- pictures


def test_pictures_shrink_to_fit() -> None:
    shots = pictures_of(PEOPLE[:6], side=128, noise=True)
    large = strips(shots, 10**7)
    assert {(strip.number, strip.height) for strip in large.values()} == {(8, 96)}
    small = strips(shots, sum(len(strip.source) for strip in large.values()) // 8)
    assert 0 < sum(len(strip.source) for strip in small.values()) <= sum(len(s.source) for s in large.values()) // 8
    assert strips(shots, 0) == {}
    few = strips(shots, 2_000)
    assert list(few) == list(PEOPLE[: len(few)]), "those that come first"
    assert 0 < len(few) < 6
    assert sum(len(strip.source) for strip in few.values()) <= 2_000


def test_pictures_are_the_ones_given_in_order() -> None:
    shots = [np.full((40, 60, 3), value, dtype=np.uint8) for value in (0, 100, 200)]
    strip = strips({"nurse": shots}, 10**6)["nurse"]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.source.split(",")[1]))).convert("RGB"))
    assert image.shape == (strip.height, strip.width, 3) == (40, 124, 3)
    assert [round(float(image[20, x, 0]), -1) for x in (20, 62, 104)] == [0, 100, 200]


def test_the_file_stays_small_with_many_pictures(tmp_path: Path) -> None:
    targets = [f"{word} {i}" for word in PEOPLE for i in range(2)]
    rows = [of_lean("picture", t, "gender", 0.3, 0.05) for t in targets]
    path = render(table_of(rows), {"model": "m"}, pictures_of(targets, 8, 96, noise=True), tmp_path / "report.html")
    assert path.stat().st_size < LARGEST
    assert "8 pictures drawn for nurse 0" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "limit"), [(500, LARGEST), (120, 700_000)])
def test_the_file_stays_small_with_many_concepts(
    number: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of all where they fit, else of those that lean furthest; what is not shown is not in the file."""
    monkeypatch.setattr("scalex.report.html.LARGEST", limit)
    targets = [f"person {i}" for i in range(number)]
    rows = [of_lean("picture", t, "gender", 0.4 * (i + 1) / number, 0.05) for i, t in enumerate(targets)]
    shots = pictures_of(targets, 2, 64, noise=True) | pictures_of(["elsewhere"])
    page = render(table_of(rows), {"model": "m"}, shots, tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < limit
    drawn = [f'2 pictures drawn for {t}"' in page for t in targets]
    assert page.count("<image ") == sum(drawn) > 30
    assert drawn == sorted(drawn)
    assert all(drawn) is (limit == LARGEST)
    assert "elsewhere" not in page


# ---------------------------------------------------------------------------------------------------- exports


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    findings = synthetic(PEOPLE[:4])
    parquet, listed = write_tables(findings, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), views.checked(findings))
    assert pq.read_schema(parquet).metadata[b"format"] == b"scalex-findings/1"
    rows = json.loads(listed.read_text(encoding="utf-8"))
    assert list(rows[0]) == list(Finding.columns())
    nothing = [row["estimate"] for row in rows if row["verdict"] == "not expressed"]
    assert nothing
    assert set(nothing) == {None}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["findings.json", "findings.parquet"]
    with pytest.raises(
        ScalexError, match=r"findings.parquet cannot be written: No such file or directory. Choose another folder"
    ):
        write_tables(findings, tmp_path / "nowhere")


def test_model_card_counts_and_warns() -> None:
    card = model_card(synthetic(["a|b", *PEOPLE[:4]], ["gender"]), {"model": "m*"})
    assert card.startswith("## Bias audit\n\n")
    assert re.search(r"\| gender \| 5 \| \d \| \d \| \d \| 0 \|", card)
    assert "Undecided and not expressed are open questions, not absence of bias" in card
    assert "a|b" not in card
    assert "Read inside m\\* with scalex, 32 seeds each" in card
    assert model_card(pd.DataFrame(), {"model": "m"}).splitlines()[2] == "This audit holds no findings."


def test_a_legend_is_written_in_the_colours_of_the_page() -> None:
    """Black text would be lost on a dark page."""
    rows = [{"x": i, "y": i, "what": what} for what in ("one", "other") for i in range(3)]
    chart = alt.Chart(alt.NamedData("rows")).mark_line().encode(x="x:Q", y="y:Q", color=alt.Color("what:N"))
    texts = re.findall("<text[^>]*>", str(inline_svg(styled(chart, {"rows": rows}), "a chart")))
    assert len(texts) > 4
    assert all('fill="var(--' in text for text in texts), texts


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip("needs a browser: apt-get install chromium-headless-shell")
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, report: Path, **options: Any) -> tuple[Any, list[str]]:
    """The report in a browser, and what it complained of or asked for."""
    page, said = browser.new_page(**options), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url))
    page.goto(report.as_uri())
    return page, said


def column(page: Any, i: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#findings-table tbody tr:not([hidden]) > :nth-child({i})", "cells => cells.map(c => c.innerText)"
    )


NARROW = {"width": 390, "height": 800}
_BEYOND = """() => [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') || e.tagName == 'svg')
  .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""


def test_paper_holds_all_of_it_and_nothing_to_press(browser: Any, tmp_path: Path) -> None:
    """A4 with the margins of the page: 182 mm are 688 pixels."""
    reason = "the nearest of 172 words; a name must reach about 0.63; these 2 templates only"
    long = finding("naming", "text", "gender: man to woman", "from pole to pole", "strong → caring", reason=reason)
    rows = [replace(long, verdict="no concept of this vocabulary fits", unit="cosine")]
    frame = pd.concat([synthetic([*PEOPLE, "ninja", "elf"], ["gender"]), table_of(rows)], ignore_index=True)
    path = render(frame, {"model": "m", "command": "scalex audit"}, pictures_of(PEOPLE, 8), tmp_path / "report.html")
    page, said = opened(browser, path, viewport={"width": 688, "height": 1000})
    sections = page.locator("section:visible").count()
    page.emulate_media(media="print")
    assert page.evaluate(_BEYOND) == []
    assert page.locator("section:visible").count() == sections
    for hidden in ("#filters", "nav", ".narrow", "details:not(.print) > summary"):
        assert page.locator(f"{hidden}:visible").count() == 0, hidden
    assert page.locator("#findings-table tbody tr:visible").count() == len(frame)
    assert page.locator(".ledger .entry").count() == len(PEOPLE) + 2
    for what in ("ninja", "elf"):  # those that lean least are folded away on screens
        assert page.locator(".ledger .entry", has_text=what).first.evaluate(
            "e => e.getBoundingClientRect().height > 20"
        )
    lines = page.locator("#findings-table tbody tr").last.evaluate("e => e.getBoundingClientRect().height")
    assert lines < 90, "the long verdict leaves room for the reason"
    assert page.pdf(format="A4", prefer_css_page_size=True).startswith(b"%PDF")
    assert said == []
    page.close()


def test_the_table_sorts_by_keyboard_and_filters(browser: Any, report: Path) -> None:
    page, said = opened(browser, report)
    page.locator("#findings-table th", has_text="Estimate").locator("button").focus()
    page.keyboard.press("Enter")
    numbers_ = page.eval_on_selector_all(
        "#findings-table tbody td:nth-child(6)", "cells => cells.map(c => parseFloat(c.dataset.v))"
    )
    known = [number for number in numbers_ if not math.isnan(number)]
    assert known == sorted(known)
    assert all(math.isnan(number) for number in numbers_[len(known) :])
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=descending]").inner_text() == "Estimate"
    page.select_option("select[data-column='2']", "rates")
    page.fill("#filters input", "pilot")
    assert set(column(page, 1)) == {"pilot"}
    assert set(column(page, 3)) == {"rates"}
    assert (
        page.inner_text("#shown")
        == f"{len(column(page, 1))} of {page.locator('#findings-table tbody tr').count()} findings"
    )
    with page.expect_download() as download:
        page.click("#csv")
    rows = pd.read_csv(download.value.path())
    assert list(rows["Concept"]) == column(page, 1)
    assert rows["Estimate"].between(0, 1).all()
    assert rows["low"].le(rows["high"]).all()
    page.click("#filters button[type=reset]")
    # Not wait_for_function: it polls by eval, which the report's content security policy refuses.
    page.get_by_text(re.compile("^All "), exact=True).and_(page.locator("#shown")).wait_for()
    assert said == []


def test_charts_explain_themselves_on_hover(browser: Any, report: Path) -> None:
    page, _ = opened(browser, report, reduced_motion="reduce")
    page.locator(".wide .row").first.hover()
    page.mouse.move(
        *(page.evaluate("(r => [r.x + 9, r.y + 9])(document.querySelector('.wide .row').getBoundingClientRect())"))
    )
    page.wait_for_selector("#tip.on")
    assert re.search(r"lean .* to .*, (leans to|balanced|undecided)", page.inner_text("#tip"))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows(browser: Any, report: Path, width: int) -> None:
    page, said = opened(browser, report, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shown = page.locator("figure.chart svg").filter(visible=True)
    assert shown.count() >= 4
    assert said == []


def test_a_long_name_of_a_model_is_wrapped(browser: Any, tmp_path: Path) -> None:
    named = {"model": "someone/a-model-with-a-name-that-is-long-indeed + lcm against someone/" + "another" * 9}
    page, _ = opened(browser, render(synthetic(["cook"]), named, {}, tmp_path / "r.html"), viewport=NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]


def test_it_reads_without_scripts(browser: Any, report: Path) -> None:
    page, _ = opened(browser, report, java_script_enabled=False)
    assert page.locator("#findings-table tbody tr").count() == len(synthetic([*PEOPLE[:10], *HOSTILE[:2]]))
    assert not page.locator("#filters").is_visible()


@pytest.mark.parametrize(("captured", "name"), [(12_800, "time"), (0, "time of this run"), (None, "time")])
def test_time_is_said_to_be_of_this_run_where_samples_were_there_already(captured: int | None, name: str) -> None:
    from scalex.report.html import _facts

    told = MANIFEST | ({} if captured is None else {"n_captured": captured})
    assert dict(_facts(synthetic(["cook"]), told))[name] == "6 min 52 s"


def test_the_concepts_are_those_that_were_asked_for() -> None:
    """Rows of clusters and of groups of words are no concepts, and do not count as such."""
    from scalex.report.html import _facts

    rows = [finding("clusters", "picture", f"cluster {i}", "", "", unit="stability", estimate=0.9) for i in range(2)]
    for listed in (["cook", "judge", "nurse"], {"texts": ["cook", "judge", "nurse"], "whole": True}):
        assert dict(_facts(table_of(rows), {"model": "m", "spec": {"concepts": listed}}))["concepts"] == "3"
    assert dict(_facts(table_of(rows), {"model": "m", "spec": {"concepts": {"vocabulary": "x"}}}))["concepts"] == "2"
    both = table_of([*rows, *leaning(0.4)])
    assert dict(_facts(both, {"model": "m"}))["concept"] == str(table_of(leaning(0.4))["target"].nunique()) == "1"


def test_what_has_no_sides_has_no_sign() -> None:
    assert [numbers.estimate(0.974, unit) for unit in ("agreement", "stability", "lean", "share")] == [
        *("0.97", "0.97", "+0.97", "97%"),
    ]
    assert numbers.interval(-0.012, 1.0, "agreement") == "−0.01 to 1.00"
    assert numbers.estimate(-0.001, "agreement") == "0.00"


def test_one_look_is_not_said_to_be_several(report: Path) -> None:
    from scalex.report.manifest import adaptive

    page = report.read_text(encoding="utf-8")
    assert "whiskers 95% intervals, the grey band" in page
    assert "all looks" not in page
    looks = {"model": "m", "looks": [{"seeds": 8, "concepts": ["cook"]}]}
    for spec, several in (({"seeds": 8, "width": 0.1}, True), ({"seeds": 8, "width": 0.1, "budget": 8}, False)):
        assert adaptive(looks | {"spec": spec}) is several
    assert not adaptive({"model": "m", "spec": {"seeds": 8, "width": 0.1}})
