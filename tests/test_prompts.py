"""Specs, their mistakes, prompts, samples and keys."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalex import vocabularies
from scalex.errors import ScalexError
from scalex.prompts import (
    AuditSpec,
    ValuePattern,
    build_prompts,
    concepts_of,
    load_spec,
    prompts_hash,
    resolve,
    sample_key,
    samples,
)
from scalex.records import Prompt, Recipe, Role, Rules

BASE: dict[str, Any] = {"concepts": ["nurse", "engineer"], "attributes": ["gender"]}
ISSUE = """
steps: 4
seeds: 32
templates: ["a photo of a {}", "a picture of a {}"]
concepts: [farmer, pilot]
attributes:
  gender: {man: "man {}", woman: "woman {}"}
  tone:   {light: "{} with light skin", dark: "{} with dark skin"}
analyses: [defaults, rates]
"""
RECIPE = Recipe("m", "text", "LCM", 4, 1.0, (0,), 100, "mid_block", "mean", "fp32", (4, 16, 16))


def message(**changes: Any) -> str:
    with pytest.raises(ScalexError) as caught:
        build_prompts(load_spec(BASE | changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texts(**changes: Any) -> list[str]:
    return [p.text for p in build_prompts(load_spec(BASE | changes))]


# ---- the spec ----


def test_the_example_of_the_issue(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(ISSUE)
    spec = load_spec(file)
    assert spec.attribute_values == {"gender": ("man", "woman"), "tone": ("light", "dark")}
    assert (spec.model, spec.seeds, spec.readings, spec.analyses) == (
        *(None, 32),
        ("text", "picture"),
        ("defaults", "rates"),
    )
    assert [p.text for p in build_prompts(spec)][:6:2] == [
        *("a photo of a farmer", "a photo of a man farmer", "a photo of a woman farmer"),
    ]


def test_the_default_audit() -> None:
    spec = load_spec()
    assert set(spec.attribute_values) == {"gender", "tone"}
    assert set(concepts_of(spec)) <= set(vocabularies.load("professions"))
    assert load_spec(None, {"seeds": 8}).seeds == 8


def test_rules_come_from_the_spec() -> None:
    assert load_spec(BASE).rules == Rules()
    given = {"confidence": 0.9, "margin": 0.2, "floor": 0.7, "resamples": 500, "permutations": 999, "analysis_seed": 7}
    assert load_spec(BASE | given).rules == Rules(0.9, 0.2, 0.7, 500, 999, 7)


def test_a_spec_is_frozen_and_passes_through() -> None:
    spec = load_spec(BASE)
    assert load_spec(spec) == spec
    assert load_spec(spec, {"steps": 2}).steps == 2
    with pytest.raises(ValueError, match="frozen"):
        spec.seeds = 3  # type: ignore[misc]


def test_presets_by_list_and_by_mapping() -> None:
    listed = load_spec(BASE | {"attributes": ["gender", "age"]})
    mixed = load_spec(
        BASE | {"attributes": {"gender": "preset", "hat": {"no": "{} without a hat", "yes": "{} with a hat"}}}
    )
    assert listed.attributes["gender"] == mixed.attributes["gender"]
    assert listed.attribute_values["age"] == ("young", "old")
    assert mixed.attribute_values["hat"] == ("no", "yes")
    assert mixed.attributes["hat"]["yes"] == ValuePattern(pattern="{} with a hat")


CASES: list[tuple[dict[str, Any], str]] = [
    ({"templat": ["{}"]}, "unknown key `templat`. Did you mean 'templates'?"),
    ({"concepts": {"vocab": "objects"}}, "unknown key `vocab` in `concepts`. Did you mean 'vocabulary'?"),
    (
        {"attributes": {"g": {"a": {"patern": "x {}"}, "b": "{}"}}},
        "unknown key `patern` in `attributes.g.a`. Did you mean 'pattern'?",
    ),
    ({"qqq": 1, "zzz": 2}, "unknown key `qqq` (and 1 more). Keys: "),
    ({"seeds": 1}, "`seeds` is 1, but must be at least 4"),
    ({"seeds": 100_001}, "`seeds` is 100001, but must be at most 100000"),
    ({"width": 0}, "`width` (--precision) is 0, but must be more than 0"),
    (
        {"budget": 64},
        "`budget` is 64, but there is no `width` to spend it on. Set `width` (--precision), such as 0.05, or leave "
        "`budget` out",
    ),
    (
        {"width": 0.05, "seeds": 64, "budget": 32},
        "`budget` is 32, but `seeds` is 64. Give it as many at least: it is the most seeds that a concept may get",
    ),
    ({"seeds": "32"}, "`seeds` is '32', but should be a whole number"),
    ({"seeds": 2.5}, "`seeds` is 2.5, but should be a whole number"),
    ({"steps": 0}, "`steps` is 0, but must be at least 1"),
    ({"steps": True}, "`steps` is True, but should be a whole number"),
    ({"guidance": -1}, "`guidance` is -1, but must be at least 1"),
    ({"guidance": float("inf")}, "`guidance` is inf, but should be a finite number"),
    ({"truncate": "yes"}, "`truncate` is 'yes', but should be true or false"),
    ({"confidence": 0.5}, "`confidence` is 0.5, but must be more than 0.5"),
    ({"confidence": 1}, "`confidence` is 1, but must be less than 1"),
    ({"margin": 0}, "`margin` is 0, but must be more than 0"),
    ({"margin": 0.5}, "`margin` is 0.5, but must be less than 0.5"),
    ({"floor": 0.4}, "`floor` is 0.4, but must be at least 0.5"),
    ({"resamples": 5}, "`resamples` is 5, but must be at least 100"),
    ({"level": 1000}, "`level` is 1000, but must be at most 999"),
    ({"size": 65}, "`size` is 65, but must be a multiple of 8"),
    ({"model": ""}, "`model` is '', but should be a text that is not empty"),
    ({"precision": "fp8"}, "`precision` (--dtype) is 'fp8', but must be 'fp32', 'bf16' or 'fp16'"),
    ({"pooling": "max"}, "`pooling` is 'max', but must be mean, full or grid:G with a whole number G"),
    ({"readings": ["txt"]}, "`readings[0]` is 'txt', but must be 'text' or 'picture'"),
    ({"readings": []}, "`readings` is empty. Name at least one"),
    ({"analyses": "rates"}, "`analyses` is 'rates', but should be a list of names, or `all`"),
    ({"analyses": ["rates", "rates"]}, "`analyses` names more than once: rates. Name each once"),
    ({"templates": "a {}"}, "`templates` is 'a {}', but should be a list"),
    (
        {"templates": ["{}", "a dog"]},
        "`templates[1]` is 'a dog', but needs exactly one {}. Write {} where the concept goes",
    ),
    ({"templates": ["{} {}"]}, "`templates[0]` is '{} {}', but needs exactly one {}. Write {} where the concept goes"),
    ({"templates": []}, "`templates` is empty. Name at least one"),
    ({"concepts": []}, "`concepts` is empty. Name at least one"),
    ({"concepts": ["a", "b", " a"]}, "`concepts` names more than once: a. Name each once"),
    ({"concepts": ["a", " "]}, "`concepts[1]` is blank. Remove it"),
    (
        {"concepts": [False]},
        "`concepts[0]` is False, but should be a text. Put it in quotes: YAML takes bare numbers and dates, yes, no, "
        "on and off for something else",
    ),
    ({"concepts": ["a {}"]}, "`concepts[0]` is 'a {}', but {} belongs to templates. Name the concept alone"),
    (
        {"concepts": ["\ud800"]},
        "`concepts[0]` is '\\ud800', which holds half of a character. Save the text as UTF-8",
    ),
    (
        {"concepts": "nurse"},
        "`concepts` is 'nurse', but should be a list of texts, {vocabulary: NAME} or {file: PATH, column: NAME}",
    ),
    (
        {"concepts": ["a nurse"]},
        "template 'a photo of a {}' with 'a nurse' has two articles. "
        "Take the article out of the concept or out of the template",
    ),
    ({"concepts": {}}, "`concepts` needs either `vocabulary` or `file`. Name exactly one of the two"),
    (
        {"concepts": {"vocabulary": "objects", "column": "x"}},
        "`concepts.column` belongs to `file`, and a vocabulary has no columns. Remove it",
    ),
    (
        {"concepts": {"file": "x.csv", "groups": ["x"]}},
        "`concepts.groups` belongs to `vocabulary`, and a file has no groups. Use `only`",
    ),
    ({"concepts": {"vocabulary": "objects", "limit": 0}}, "`concepts.limit` is 0, but must be at least 1"),
    (
        {"concepts": {"vocabulary": "objects", "only": []}},
        "`concepts.only` is [], but should be a list that is not empty",
    ),
    (
        {"concepts": {"vocabulary": "objects", "frame": "red"}},
        "`concepts.frame` is 'red', but needs exactly one {}. Write {} where the word goes",
    ),
    (
        {"concepts": {"vocabulary": "profesions"}},
        "there is no vocabulary 'profesions'. Did you mean 'professions'? "
        f"Vocabularies: {', '.join(vocabularies.available())}",
    ),
    (
        {"concepts": {"vocabulary": "professions", "only": ["nurs"]}},
        "`concepts.only` names 'nurs', which is not there. Did you mean 'nurse'?",
    ),
    (
        {"concepts": {"vocabulary": "adjectives", "groups": ["warmt"]}},
        "vocabulary 'adjectives' has no group 'warmt'. Did you mean 'warmth'?",
    ),
    (
        {"attributes": ["gendr"]},
        "there is no attribute preset 'gendr'. Did you mean 'gender'? Presets: age, gender, tone",
    ),
    ({"attributes": ["gender", "gender"]}, "`attributes` names more than once: gender. Name each once"),
    (
        {"attributes": ["gender", {"hat": {}}]},
        "`attributes[1]` is {'hat': {}}, but a list holds names of presets. "
        "Write a mapping, as in `attributes: {gender: preset, hat: {...}}`",
    ),
    ({"attributes": []}, "`attributes` is empty. Name at least one"),
    ({"attributes": "gender"}, "`attributes` is 'gender', but should be a list of presets, or a mapping"),
    ({"attributes": {"g": 3}}, "`attributes.g` is 3, but should be a mapping of values to patterns, or `preset`"),
    ({"attributes": {"g": {"a": 3, "b": "{}"}}}, "`attributes.g.a` is 3, but should be a pattern, such as 'man {}'"),
    (
        {"attributes": {"g": {"a": "x {}"}}},
        "`attributes.g` has 1 value, but a comparison needs two or more. Add a value",
    ),
    (
        {"attributes": {"g": {"a": "x {}", "b": "y"}}},
        "`attributes.g.b` is 'y', but needs exactly one {}. Write {} where the concept goes",
    ),
    (
        {"attributes": {"g": {"a": "x {}", "b": "x {}"}}},
        "`attributes.g.b` says the same as another value. Give each value its own wording",
    ),
    (
        {"attributes": {"g": {"a": "{}", "b": "woman {}"}}},
        "`attributes.g.a` says the same as the concept itself. Say the value in the pattern",
    ),
    (
        {"keep": 1.5},
        "`keep` is 1.5, but should be first, last, all, numbers from 0, or these by reading. Readings: text, picture",
    ),
    (
        {"keep": {"image": 1}},
        "`keep` is {'image': 1}, but should be first, last, all, numbers from 0, or these by reading. "
        "Readings: text, picture",
    ),
    ({"first_seed": -1}, "`first_seed` is -1, but must be at least 0"),
    (
        {"attributes": {"hat": {True: "{} with a hat", False: "{}"}}},
        "`attributes.hat` holds the key True, which is no name. Put it in quotes or name it otherwise",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), CASES, ids=[str(c)[:60] for c, _ in CASES])
def test_each_mistake_is_one_clear_line(changes: dict[str, Any], expected: str) -> None:
    said = message(**changes)
    assert said.startswith(expected) if expected.endswith("Keys: ") else said == expected


def test_missing_keys_say_how_to_write_them() -> None:
    with pytest.raises(ScalexError, match=r"^`attributes` is missing. Name what to compare, as in `attributes: \["):
        load_spec({"concepts": ["nurse"]})
    with pytest.raises(ScalexError, match=r"^`concepts` is missing \(and 1 more\). Name what to audit, as in `conc"):
        AuditSpec.model_validate({})


FILES = [
    ("concepts: [nurse\nseeds: 3\n", "bad YAML in line 2, column 6: expected ',' or ']', but got ':'. Mend that line"),
    ("seeds: 3\nsteps: 2\nseeds: 4\n", "key `seeds` is named twice in line 3, column 1. Remove one of them"),
    ("concepts: [2026-13-40]\n", "bad YAML: month must be in 1..12. Save it as plain UTF-8 text"),
    ("- nurse\n", "the spec is no mapping of keys. Write `concepts: [...]` and `attributes: [...]`"),
    ("", "the spec is no mapping of keys. Write `concepts: [...]` and `attributes: [...]`"),
    ("concepts: &a [*a]\nattributes: [gender]\n", None),
    ("concepts: [nurse]\nattributes: [gender]\nsead: 3\n", "unknown key `sead`. Did you mean 'seeds'?"),
]


@pytest.mark.parametrize(("content", "expected"), FILES)
def test_a_bad_file_is_named(tmp_path: Path, content: str, expected: str | None) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(content)
    with pytest.raises(ScalexError) as caught:
        load_spec(file)
    if expected is not None:
        assert str(caught.value) == f"{file}: {expected}"


def test_a_bad_override_does_not_blame_the_file(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(ISSUE)
    assert load_spec(tmp_path / "spec.yaml", {"seeds": 4, "concepts": ["cook"]}).seeds == 4
    with pytest.raises(ScalexError, match=r"^`seeds` is 1, but must be at least 4$"):
        load_spec(tmp_path / "spec.yaml", {"seeds": 1})


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"^the spec .*gone.yaml does not exist. Check the path$"):
        load_spec(tmp_path / "gone.yaml")
    with pytest.raises(ScalexError, match=r"cannot be read \(Is a directory\). Name a file that you may read$"):
        load_spec(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("concepts: [caf\xe9]".encode("latin-1"))
    with pytest.raises(ScalexError, match=r"latin.yaml is not UTF-8 \(byte 14\). Save it as UTF-8 text$"):
        load_spec(tmp_path / "latin.yaml")


# ---- concepts from vocabularies and files ----


def test_concepts_of_a_vocabulary() -> None:
    def of(**source: Any) -> tuple[str, ...]:
        return concepts_of(load_spec(BASE | {"concepts": source}))

    assert of(vocabulary="professions") == vocabularies.load("professions")
    assert of(vocabulary="professions", only=["pilot", "nurse"]) == ("pilot", "nurse")
    assert of(vocabulary="adjectives", only=["bossy"]) == ("bossy person",)
    assert of(vocabulary="countries", only=["Japan", "the Netherlands"], frame="breakfast in {}") == (
        *("breakfast in Japan", "breakfast in the Netherlands"),
    )
    assert of(vocabulary="adjectives", groups=["mood"], limit=2) == ("anxious person", "ashamed person")


ROWS = ["nurse", "tax  collector ", "", "Éire's “poet”"]
EXPECTED = ("nurse", "tax collector", "Éire's “poet”")
WRITTEN = {
    "c.txt": "# a comment\nnurse\ntax  collector \n\nÉire's “poet”\n",
    "c.csv": 'concept, id\nnurse, 1\n"tax  collector ",2\n,3\nÉire\'s “poet”,4\n',
    "c.tsv": "id\tconcept\n1\tnurse\n2\ttax  collector \n3\t\n4\tÉire's “poet”\n5\n",
    "c.jsonl": "\n".join(json.dumps({"id": i, "concept": row}) for i, row in enumerate(ROWS)) + '\n\n{"id": 9}\n',
}


def parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("name", [*WRITTEN, "c.parquet"])
def test_concepts_of_a_file_beside_the_spec(tmp_path: Path, name: str) -> None:
    if name == "c.parquet":
        parquet(tmp_path / name, id=[1, 2, 3, 4], concept=pa.array(ROWS).dictionary_encode())
    else:
        (tmp_path / name).write_text(WRITTEN[name], encoding="utf-8-sig" if name == "c.csv" else "utf-8")
    column = "" if name == "c.txt" else ", column: concept"
    (tmp_path / "spec.yaml").write_text(f"concepts: {{file: {name}{column}}}\nattributes: [gender]\n")
    spec = load_spec(tmp_path / "spec.yaml")
    assert concepts_of(spec) == EXPECTED
    assert concepts_of(load_spec(spec.to_dict())) == EXPECTED


def test_a_lone_column_needs_no_name_and_repeats_may_be_dropped(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("job\nnurse\npilot\nnurse\n", encoding="utf-8-sig")
    source = {"file": str(file)}
    assert message(concepts=source) == "`concepts` names more than once: nurse. Name each once, or set `distinct: true`"
    spec = load_spec(BASE | {"concepts": source | {"distinct": True, "frame": "person who works as a {}"}})
    assert concepts_of(spec) == ("person who works as a nurse", "person who works as a pilot")


BAD_FILES: list[tuple[str, str, dict[str, str], str]] = [
    ("c.csv", "a,b\n1,2\n", {"column": "c"}, "concept file FILE has no column 'c'. It has: a, b"),
    ("c.csv", "a,b\n1,2\n", {}, "concept file FILE needs `concepts.column`. It has: a, b"),
    ("c.csv", "", {"column": "a"}, "concept file FILE has no column 'a'. It is empty"),
    ("c.csv", "a\n", {"column": "a"}, "`concepts` is empty. Name at least one"),
    ("c.txt", "nurse", {"column": "a"}, "concept file FILE has no columns, but `concepts.column` is 'a'. Remove it"),
    ("c.xlsx", "nurse", {}, "concept file FILE is of no known kind. Known: .txt, .csv, .tsv, .jsonl, .parquet"),
    ("c.jsonl", '{"a": "b"}\n{', {}, "concept file FILE has bad JSON in line 2: Expecting property name enclosed in"),
    ("c.jsonl", "[1]", {}, "concept file FILE holds no object in line 1. Write one {...} a line"),
    ("c.jsonl", '{"a": 3}', {}, "concept file FILE holds 3, which is no text. Name a column of texts"),
    ("c.parquet", "nurse", {}, "concept file FILE is no Parquet. Save it as Parquet, or name it by its kind"),
    (
        "c.csv",
        f"a\n{'x' * 140_000}\n",
        {},
        "concept file FILE is no table (field larger than field limit (131072), line 2)",
    ),
]


@pytest.mark.parametrize(("name", "content", "source", "expected"), BAD_FILES)
def test_a_bad_concept_file_says_why(
    tmp_path: Path, name: str, content: str, source: dict[str, str], expected: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    said = message(concepts={"file": str(file)} | source).replace(str(file), "FILE")
    assert said.startswith(expected)


def test_other_bad_concept_files(tmp_path: Path) -> None:
    assert message(concepts={"file": "gone.csv"}) == "concept file gone.csv does not exist. Check the path"
    assert message(concepts={"file": "gone.parquet"}).startswith("concept file gone.parquet cannot be read (No such")
    parquet(tmp_path / "n.parquet", n=[1, 2])
    assert message(concepts={"file": str(tmp_path / "n.parquet")}).endswith(
        "holds 1, which is no text. Name a column of texts"
    )
    assert message(concepts={"file": str(tmp_path / "n.parquet"), "column": "m"}).endswith(
        "has no column 'm'. It has: n"
    )


def test_resolve_lists_the_concepts(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_text("nurse\npilot\n")
    spec = load_spec(BASE | {"concepts": {"file": str(file)}})
    listed = resolve(spec)
    file.unlink()
    assert listed.concepts == ("nurse", "pilot")
    assert [p.concept for p in build_prompts(load_spec(listed.to_dict()))][::6] == ["nurse", "pilot"]


# ---- prompts ----


def test_order_and_places() -> None:
    prompts = build_prompts(load_spec(BASE | {"concepts": ["engineer"], "templates": ["A {}", "one {}"]}))
    assert prompts == (
        Prompt("An engineer", "engineer", "A {}"),
        Prompt("one engineer", "engineer", "one {}"),
        Prompt("A man engineer", "engineer", "A {}", "gender", "man"),
        Prompt("one man engineer", "engineer", "one {}", "gender", "man"),
        Prompt("A woman engineer", "engineer", "A {}", "gender", "woman"),
        Prompt("one woman engineer", "engineer", "one {}", "gender", "woman"),
    )


def test_the_word_person_gives_way_to_the_noun() -> None:
    said = texts(concepts=["bossy person", "salesperson"], attributes=["gender", "tone", "age"], templates=["a {}"])
    assert said[:7] == [
        "a bossy person",
        *("a bossy man", "a bossy woman"),
        *("a bossy person with light skin", "a bossy person with dark skin"),
        *("a young bossy person", "an old bossy person"),
    ]
    assert said[8] == "a man salesperson"


words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="{}"), min_size=1, max_size=8)
words = words.filter(lambda w: w not in {"a", "an", "the"})
phrases = st.lists(words, min_size=1, max_size=3).map(" ".join)
patterns = st.tuples(phrases, phrases).map(lambda t: f"{t[0]} {{}} {t[1]}")
values = st.dictionaries(words, patterns, min_size=2, max_size=3).filter(lambda d: len(set(d.values())) == len(d))
specs = st.fixed_dictionaries(
    {
        "concepts": st.lists(phrases, min_size=1, max_size=4, unique=True),
        "templates": st.lists(patterns | st.sampled_from(["a {}", "An {} here"]), min_size=1, max_size=3, unique=True),
        "attributes": st.dictionaries(words, values, min_size=1, max_size=2),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs)
def test_prompts_are_complete_ordered_and_hold_their_concept(data: dict[str, Any]) -> None:
    spec = load_spec(data)
    prompts = build_prompts(spec)
    forms = [("", "")] + [(a, v) for a, values in data["attributes"].items() for v in values]
    assert [(p.concept, (p.attribute, p.value), p.template) for p in prompts] == [
        (c, form, t) for c in data["concepts"] for form in forms for t in data["templates"]
    ]
    assert all(p.concept in p.text and p.text == " ".join(p.text.split()) for p in prompts)
    assert len({p.text for p in prompts if not p.attribute and p.template == data["templates"][0]}) <= len(
        data["concepts"]
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs)
def test_a_spec_round_trips(data: dict[str, Any]) -> None:
    spec = load_spec(data)
    assert load_spec(spec.to_dict()) == spec
    assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()


OTHER_THAN_DEFAULT = {
    "concepts": {"vocabulary": "adjectives", "only": ["bossy"], "limit": 1, "frame": "{} cat", "distinct": True},
    **{
        "model": "a/b",
        "unet": "u",
        "lora": "l",
        "steps": 2,
        "guidance": 1,
        "seeds": 20,
        "size": 64,
        "precision": "bf16",
    },
    **{"templates": ["{}"], "readings": ["picture"], "analyses": "all", "pooling": "grid:2", "level": 50},
    **{"truncate": True, "confidence": 0.9, "margin": 0.2, "floor": 0.7, "resamples": 500, "permutations": 999},
    "analysis_seed": 7,
    "first_seed": 10,
    "width": 0.05,
    "budget": 20,
    "probe": "up_blocks.0",
    "scheduler": "DDIMScheduler",
    "keep": {"text": ["first", 1], "picture": "last"},
    "reference": "human",
    "identities": ["man", "woman"],
    "words": {"vocabulary": "objects", "limit": 3},
    "moments": 5,
}


@pytest.mark.parametrize("data", [BASE, BASE | OTHER_THAN_DEFAULT])
def test_a_spec_round_trips_through_a_file(tmp_path: Path, data: dict[str, Any]) -> None:
    spec = load_spec(data)
    (tmp_path / "s.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    assert load_spec(tmp_path / "s.yaml") == spec


def test_no_attributes_leave_the_concepts_alone() -> None:
    spec = load_spec({"concepts": ["tent"], "attributes": {}, "templates": ["a {}"]})
    assert [p.text for p in build_prompts(spec)] == ["a tent"]
    assert load_spec(spec.to_dict()) == spec


def test_the_round_trip_leaves_no_key_at_its_default() -> None:
    default, other = load_spec(BASE), load_spec(BASE | OTHER_THAN_DEFAULT)
    same = {key for key in AuditSpec.model_fields if getattr(default, key) == getattr(other, key)}
    assert same == {"attributes"}, "give these another value above"


# ---- samples and keys ----


def test_samples_are_unique_and_text_major() -> None:
    prompts = [Prompt(text, concept, "{}") for text, concept in [("x", "a"), ("y", "b"), ("x", "c")]]
    assert samples(prompts, range(2)) == [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    assert samples(prompts, [5, 5]) == [("x", 5), ("y", 5)]


def test_the_key_is_what_it_is() -> None:
    plain = f"{RECIPE.id}\x007\x00a photo of a café"
    assert sample_key(RECIPE, "a photo of a café", 7) == hashlib.sha256(plain.encode()).hexdigest()[:32]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(st.text(), st.integers(0)), st.tuples(st.text(), st.integers(0)))
def test_keys_differ_exactly_where_samples_do(a: tuple[str, int], b: tuple[str, int]) -> None:
    assert (sample_key(RECIPE, *a) == sample_key(RECIPE, *b)) == (a == b)


def test_the_key_holds_the_recipe_and_the_exact_text() -> None:
    other = Recipe("m", "picture", "LCM", 4, 1.0, (0,), 100, "mid_block", "mean", "fp32", (4, 16, 16))
    keys = {sample_key(r, t, 0) for r in (RECIPE, other) for t in ("caf\u00e9", "cafe\u0301")}
    assert len(keys) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)


def test_prompts_hash_names_order_and_content() -> None:
    a, b = Prompt("x", "c", "{}"), Prompt("y", "c", "{}")
    assert len({prompts_hash(p) for p in ([a, b], [b, a], [a], [], [a, Prompt("y", "c", "{}", "g", "v")])}) == 5
    assert prompts_hash([a, b]) == prompts_hash((a, b)) == "887a092b8a33b4ed7d488a4c8a77096d"


# ---- others ----


def test_dalleval_triplets(tmp_path: Path) -> None:
    """From its professions alone, the gender preset and our articles say DallEval's 84 triplets word for word.

    Its phrasing puts the gender before "who works as", so the professions need a frame; nothing else is fitted.
    """
    folder = Path(os.environ.get("SCALEX_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("no reference tables: set SCALEX_REFERENCE to their folder")
    theirs = json.loads((folder / "dalleval_prompts.json").read_text())
    jobs = [m[1] for p in theirs if (m := re.match(r"A person who works as an? (.+)", p))]
    (tmp_path / "jobs.txt").write_text("\n".join(jobs))
    framed = {"file": str(tmp_path / "jobs.txt"), "frame": "person who works as a {}"}
    ours = texts(concepts=framed, templates=["A {}"]) + texts(concepts=["person"], templates=["A {}"])
    assert len(ours) == 252
    assert sorted(ours) == sorted(theirs)


def test_import_stays_light() -> None:
    code = "import sys, scalex.prompts; print({'torch', 'diffusers', 'lance', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_variants_are_said_of_the_roles_that_take_them() -> None:
    more = {"concepts": ["nurse"], "templates": ["a {}"], "attributes": ["gender"], "reference": "person"}
    spec = load_spec(BASE | more)
    roles: tuple[Role, ...] = ("concept", "reference")

    def said(spec: AuditSpec, variants: tuple[Role, ...]) -> list[str]:
        return [p.text for p in build_prompts(spec, roles, variants)]

    reference = ["a person", "a man", "a woman"]
    assert said(spec, ()) == ["a nurse", "a person"]
    assert said(spec, ("reference",)) == ["a nurse", *reference]
    assert said(spec, ("concept",)) == ["a nurse", "a man nurse", "a woman nurse", "a person"]
    assert said(spec, roles) == [p.text for p in build_prompts(spec, roles)]
    none = load_spec(BASE | more | {"reference": ""})
    assert said(none, ("reference",)) == ["a nurse", "a man nurse", "a woman nurse"], "they stand for the reference's"
    assert said(none, ()) == ["a nurse"]
