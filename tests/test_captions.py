"""Captions as vocabulary: files of every kind, read as a stream, each caption a prompt of its own, resumable."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalex.auditing import capture_run, latents_of, open_run
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.prompts import build_prompts, load_spec, resolve, samples, words_of
from scalex.runs import read_manifest
from scalex.sources import texts_in
from scalex.spec import AuditSpec, ConceptSource
from tiny import interrupting

CAPTIONS = ("A dog on a mat.", "#1 dad mug", "犬が座っている", "كلب على سجادة", "Собака ☕ 👩🏽‍🚀")
ROWS = (CAPTIONS[0], f"  {CAPTIONS[1]} ", "", *CAPTIONS[2:], CAPTIONS[0])  # a blank one, and one twice
COCO = {
    "info": {"year": 2017},
    "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(9)],
    "annotations": [{"image_id": i, "id": i, "caption": row} for i, row in enumerate(ROWS)],
}
MANY = 100_000


def _table(delimiter: str) -> str:
    return "\r\n".join([f"id{delimiter}caption", *(f'{i}{delimiter}"{row}"' for i, row in enumerate(ROWS))])


TEXTS: dict[str, str] = {
    "c.txt": "\n".join(ROWS),
    "c.csv": _table(","),
    "c.tsv": _table("\t"),
    "c.jsonl": "\n".join(json.dumps({"caption": row, "id": i}) for i, row in enumerate(ROWS)),
    "coco.json": json.dumps(COCO, ensure_ascii=False),
    "list.json": json.dumps(ROWS),
}
COLUMNS = {"c.csv": "caption", "c.tsv": "caption", "c.jsonl": "caption", "c.parquet": "caption"}


def asked(**words: Any) -> AuditSpec:
    return load_spec({"concepts": ["nurse"], "attributes": {}, "words": words})


def written(folder: Path, name: str) -> Path:
    file = folder / name
    if name == "c.parquet":
        pq.write_table(pa.table({"id": range(len(ROWS)), "caption": ROWS}), file, row_group_size=2)
    else:
        file.write_bytes(TEXTS[name].encode())
    return file


@pytest.mark.parametrize("name", [*TEXTS, "c.parquet"])
def test_captions_of_every_kind_of_file_are_whole_prompts_each_once(tmp_path: Path, name: str) -> None:
    column = {"column": COLUMNS[name]} if name in COLUMNS else {}
    spec = asked(file=str(written(tmp_path, name)), whole=True, **column)
    prompts = build_prompts(spec, ["word"])
    assert [p.text for p in prompts[::2]] == list(CAPTIONS)
    assert [p.concept for p in prompts[::2]] == list(CAPTIONS)
    assert [p.text for p in prompts[::2]] == [p.text for p in prompts[1::2]], "the same in every template"
    assert [p.template for p in prompts[:2]] == list(spec.templates)
    assert samples(prompts, range(2)) == [(text, seed) for text in CAPTIONS for seed in range(2)]


def test_a_file_that_is_not_of_whole_texts_is_read_as_before(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_text("# a comment\nnurse\npilot\n")
    spec = asked(file=str(file))
    assert [p.text for p in build_prompts(spec, ["word"])][::2] == ["a photo of a nurse", "a photo of a pilot"]
    file.write_text("nurse\nnurse\n")
    with pytest.raises(ScalexError, match="`words` names more than once: nurse"):
        build_prompts(asked(file=str(file)), ["word"])
    with pytest.raises(ScalexError, match="`words` names more than once: nurse"):
        build_prompts(asked(file=str(file), whole=True, distinct=False), ["word"])


def test_a_resolved_spec_says_the_same_without_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "c.txt")
    spec = asked(file=str(file), whole=True)
    before = build_prompts(spec, ["word"])
    listed = resolve(spec)
    file.unlink()
    assert build_prompts(load_spec(json.loads(json.dumps(listed.to_dict()))), ["word"]) == before


def test_captions_as_concepts_are_said_with_values(tmp_path: Path) -> None:
    captions = {"texts": ["A person on a horse", "the moon"], "whole": True}
    spec = load_spec({"concepts": captions, "attributes": ["gender"], "templates": ["a {}"]})
    assert [p.text for p in build_prompts(spec)] == [
        *("A person on a horse", "A man on a horse", "A woman on a horse"),
        *("the moon", "man the moon", "woman the moon"),
    ]


BAD: list[tuple[str, bytes, dict[str, str], str]] = [
    ("c.txt", b"a dog\na caf\xe9\n", {}, "concept file FILE is not UTF-8 (line 2). Save it as UTF-8 text"),
    ("c.txt", b"\x89PNG\r\n\x1a\n", {}, "concept file FILE is not UTF-8 (line 1)"),
    ("c.txt", b"\n\n  \n", {}, "`words` is empty. Name at least one"),
    ("c.txt", b"a {} dog", {}, "`words[0]` is 'a {} dog', but {} belongs to templates"),
    (
        "c.csv",
        b'caption\na dog\n"' + b"x" * 140_000,
        {},
        "concept file FILE is no table (field larger than",
    ),
    ("c.jsonl", b'{"caption": "a"}\n{"caption": "b"', {}, "concept file FILE has bad JSON in line 2: Expecting ','"),
    ("c.jsonl", b'{"caption": "a"}\n{"caption": ["b"]}', {}, "concept file FILE holds ['b'], which is no text"),
    ("c.jsonl", b'{"text": "a", "id": 1}', {}, "concept file FILE needs `concepts.column`. It has: text, id"),
    ("c.jsonl", b'{"text": "a"}', {"column": "caption"}, "concept file FILE has no column 'caption'. It has: text"),
    ("c.json", b'{"images": []}', {}, "concept file FILE is neither a list nor a document with `annotations`"),
    ("c.json", b'[{"text": "a"}]', {}, "concept file FILE has no column 'caption'. It has: text"),
    ("c.json", b"[1]", {}, "concept file FILE holds 1, which is no text"),
    ("c.json", b'["a",\n"b"', {}, "concept file FILE has bad JSON in line 2: Expecting ',' delimiter"),
    ("c.parquet", b"a dog", {}, "concept file FILE is no Parquet. Save it as Parquet, or name it by its kind"),
    ("c.zip", b"PK", {}, "concept file FILE is of no known kind. Known: .txt, .csv, .tsv, .jsonl, .parquet, .json"),
]


@pytest.mark.parametrize(("name", "content", "source", "expected"), BAD)
def test_a_broken_file_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes, source: dict[str, str], expected: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ScalexError) as error:
        build_prompts(asked(file=str(file), whole=True, **source), ["word"])
    assert str(error.value).replace(str(file), "FILE").startswith(expected)
    assert "\n" not in str(error.value)


def test_a_source_has_one_origin() -> None:
    with pytest.raises(ScalexError, match="needs either `vocabulary` or `file`"):
        ConceptSource(vocabulary="objects", texts=("a",))
    with pytest.raises(ScalexError, match=r"`words.texts` is \[\], but should be a list that is not empty"):
        asked(texts=[])


# ---- 100,000 lines ----


def _write_many(file: Path) -> None:
    lines = (f"A person number {i} rides a horse through the park, 日本 ☕" for i in range(MANY))
    if file.suffix == ".txt":
        file.write_text("".join(f"{line}\n" for line in lines))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps({"id": 1, "caption": line}) + "\n" for line in lines))
    elif file.suffix == ".csv":
        file.write_text("id,caption\n" + "".join(f'1,"{line}"\n' for line in lines))
    else:
        pq.write_table(pa.table({"id": [1] * MANY, "caption": list(lines)}), file)


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_a_hundred_thousand_lines_pass_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"captions.{kind}"
    _write_many(file)
    column = None if kind == "txt" else "caption"
    assert sum(1 for _ in texts_in(file, column, comments=False)) == MANY
    tracemalloc.start()  # Arrow's own memory is not seen by it; of Python's, Parquet may hold one batch
    assert sum(1 for _ in itertools.islice(texts_in(file, column), MANY // 5)) == MANY // 5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (30e6 if kind == "parquet" else 1e6)


def test_a_file_is_read_no_further_than_asked(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_bytes(b"a dog\na cat\na dog\na bird\n" + b"\n" * 20_000 + b"\xff\n")
    first = ConceptSource(file=str(file), whole=True, limit=3)
    assert words_of(first, "words") == ("a dog", "a cat", "a bird")
    with pytest.raises(ScalexError, match="is not UTF-8"):
        words_of(first.model_copy(update={"limit": 4}), "words")


def test_a_hundred_thousand_captions_make_prompts(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    _write_many(file)
    prompts = build_prompts(asked(file=str(file), whole=True), ["word"])
    assert len(prompts) == 2 * MANY
    assert len({p.text for p in prompts}) == MANY


# ---- capture ----


@pytest.fixture
def job(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Callable[..., Any]:
    def make(lines: list[str], **keys: Any) -> Any:
        file = tmp_path / "captions.txt"
        file.write_text("\n".join(lines))
        asked = {
            **{"concepts": ["farmer", "pilot"], "attributes": {"gender": {"man": "man {}", "woman": "woman {}"}}},
            **{"words": {"file": str(file), "whole": True}, "analyses": ["naming"], "seeds": 4, "steps": 2},
        }
        return prepare(tiny_folder(), asked | keys, device="cpu")

    return make


DISTINCT = [
    f"a {kind} of a {who} {job} with {tone} skin"
    for kind in ("photo", "picture")
    for who in ("man", "woman")
    for job in ("farmer", "pilot", "nurse")
    for tone in ("light", "dark")
]
LINES = [*DISTINCT, "", *DISTINCT[:3]]


def test_a_capture_over_a_captions_file_resumes(tmp_path: Path, job: Callable[..., Any]) -> None:
    full = job(LINES)
    full = replace(full, plan=replace(full.plan, batch=4))
    texts = {p.text for p in full.prompts}
    assert len(full.samples) == 4 * len(texts) == 4 * (2 * 3 * 2 + len(DISTINCT))
    with interrupting(full.model, lambda n: n > 20), pytest.raises(ScalexError, match="interrupted"):
        capture_run(full, tmp_path / "run")
    captured = capture_run(job(LINES), tmp_path / "run")[1]["n_captured"]
    assert 0 < captured < len(full.samples)
    assert capture_run(job([*LINES, "a picture of a pilot with dark skin"]), tmp_path / "run")[1]["n_captured"] == 4
    held = latents_of(open_run(_analysed(tmp_path / "run")))["text"]
    assert held.named("word") == (*DISTINCT, "a picture of a pilot with dark skin")
    assert read_manifest(tmp_path / "run")[1]["spec"]["words"]["whole"] is True


def _analysed(run: Path) -> Path:
    from scalex.auditing import analyze

    analyze(run)
    return run


def test_an_overlong_caption_is_refused_or_cut(job: Callable[..., Any]) -> None:
    long = " ".join(["a woman with dark skin"] * 4)
    with pytest.raises(ScalexError, match=r"a text has 20 tokens, but the model takes 10: .* truncate: true"):
        job([*LINES, long])
    assert job([*LINES, long], truncate=True).prompts[-1].text == long
