"""From a spec to ordered samples: concepts, their variants in every template, and the key of a sample."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from functools import lru_cache, partial
from pathlib import Path

from scalex.errors import ScalexError
from scalex.records import ROLES, Prompt, Recipe, Role
from scalex.spec import AuditSpec, ConceptSource, ValuePattern, load_spec
from scalex.spec_errors import check_concepts, read_text
from scalex.vocabularies import load_vocabulary
from scalex.wording import SLOT, did_you_mean, doubles_article, fill, tidy

__all__ = [
    "AuditSpec",
    "ConceptSource",
    "ValuePattern",
    "build_prompts",
    "concepts_of",
    "load_spec",
    "prompts_hash",
    "resolve",
    "sample_key",
    "samples",
    "words_of",
]


def build_prompts(spec: AuditSpec, roles: Iterable[Role] = ("concept",)) -> tuple[Prompt, ...]:
    """Every prompt of an audit in these roles, ordered by role, then by concept, neutral before variants, by template.

    Concepts and the reference are said with all values of all attributes too; identities and words as they are.
    Prompts of different concepts or roles may read the same; they are then one sample.

    Raises:
        ScalexError: the concepts cannot be read, or one brings an article to a template that has one.
    """
    neutral = [("", "", ValuePattern(pattern=SLOT))]
    forms = [(name, value, pattern) for name, values in spec.attributes.items() for value, pattern in values.items()]
    asked: dict[Role, tuple[tuple[str, ...], list[tuple[str, str, ValuePattern]]]] = {
        "concept": (concepts_of(spec), neutral + forms),
        "reference": ((spec.reference,) if spec.reference else (), neutral + forms),
        "identity": (words_of(spec.identities, "identities"), neutral),
        "word": (words_of(spec.words, "words"), neutral),
    }
    return tuple(
        Prompt(_say(template, pattern.of(concept)), concept, template, attribute, value, role)
        for role in ROLES
        if role in roles
        for concept in asked[role][0]
        for attribute, value, pattern in asked[role][1]
        for template in spec.templates
    )


def _say(template: str, variant: str) -> str:
    if doubles_article(template, variant):
        wrong = f"template {template!r} with {variant!r} has two articles"
        raise ScalexError(wrong, "Take the article out of the concept or out of the template")
    return tidy(fill(template, variant))


def resolve(spec: AuditSpec) -> AuditSpec:
    """The same spec with its concepts, identities and words listed, so that it says the same without their files.

    Raises:
        ScalexError: they cannot be read.
    """
    listed: dict[str, object] = {"concepts": concepts_of(spec)}
    for key in ("identities", "words"):
        if getattr(spec, key) is not None:
            listed[key] = words_of(getattr(spec, key), key)
    return spec.model_copy(update=listed)


def samples(prompts: Iterable[Prompt], seeds: Iterable[int]) -> list[tuple[str, int]]:
    """Every (text, seed) once, all seeds of a text together, so that a batch encodes few texts."""
    texts = dict.fromkeys(p.text for p in prompts)
    numbers = list(dict.fromkeys(seeds))
    return [(text, seed) for text in texts for seed in numbers]


def prompts_hash(prompts: Iterable[Prompt]) -> str:
    """32 hexadecimal digits that name a sequence of prompts, for the manifest."""
    lines = [json.dumps(_parts(p), ensure_ascii=False) for p in prompts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _parts(prompt: Prompt) -> tuple[str, ...]:
    """Its fields; the role where it is not the usual one, so that hashes from before there were roles still hold."""
    *fields, role = astuple(prompt)
    return tuple(fields) if role == ROLES[0] else (*fields, role)


def sample_key(recipe: Recipe, text: str, seed: int) -> str:
    """The key of one sample, 32 hexadecimal digits: the only definition of when two samples are the same.

    The text enters as it is, without Unicode normalisation, since the tokenizer sees exactly these characters.
    """
    parts = (_recipe_id(recipe), str(seed).encode(), text.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


@lru_cache(maxsize=64)
def _recipe_id(recipe: Recipe) -> bytes:
    return recipe.id.encode()


def concepts_of(spec: AuditSpec) -> tuple[str, ...]:
    """The concepts of a spec, read from its vocabulary or file where it names one.

    Raises:
        ScalexError: no such vocabulary, file, column or word; a file that cannot be read; no concept, or one twice.
    """
    return words_of(spec.concepts, "concepts")


def words_of(source: tuple[str, ...] | ConceptSource | None, key: str) -> tuple[str, ...]:
    """The texts of a list, or of the vocabulary or file that a source names; `key` is the spec's, for messages.

    Raises:
        ScalexError: as `concepts_of`.
    """
    if not isinstance(source, ConceptSource):
        return source or ()
    words, frame = _words_of_file(source) if source.file else _words_of_vocabulary(source)
    words = list(dict.fromkeys(words)) if source.distinct else words
    for word in source.only or ():
        if word not in words:
            raise ScalexError(
                f"`{key}.only` names {word!r}, which is not there", did_you_mean(word, set(words), "Words")
            )
    chosen = (source.only or words)[: source.limit]
    return check_concepts(
        [fill(source.frame or frame, word) for word in chosen], "Name each once, or set `distinct: true`", key
    )


def _words_of_vocabulary(source: ConceptSource) -> tuple[list[str], str]:
    vocabulary = load_vocabulary(source.vocabulary or "")
    for group in source.groups or ():
        if group not in vocabulary.groups:
            wrong = f"vocabulary {vocabulary.name!r} has no group {group!r}"
            raise ScalexError(wrong, did_you_mean(group, vocabulary.groups, "Groups"))
    return [w for group in source.groups or vocabulary.groups for w in vocabulary.groups[group]], vocabulary.frame


def _words_of_file(source: ConceptSource) -> tuple[list[str], str]:
    path = Path(source.file or "")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ScalexError(f"concept file {path} is of no known kind", f"Known: {', '.join(_READERS)}")
    cells = list(reader(path, source.column))
    odd = next((cell for cell in cells if not isinstance(cell, str | None)), None)
    if odd is not None:
        raise ScalexError(f"concept file {path} holds {odd!r}, which is no text", "Name a column of texts")
    return [tidy(str(cell)) for cell in cells if cell and str(cell).strip()], SLOT


def _read_lines(path: Path, column: str | None) -> Iterable[object]:
    if column:
        raise ScalexError(f"concept file {path} has no columns, but `concepts.column` is {column!r}", "Remove it")
    return [line for line in read_text(path, "concept file").splitlines() if not line.startswith("#")]


def _read_table(path: Path, column: str | None, delimiter: str) -> Iterable[object]:
    text = io.StringIO(read_text(path, "concept file"), newline="")
    rows = csv.DictReader(text, delimiter=delimiter, skipinitialspace=True)
    try:
        column = _pick_column(path, column, rows.fieldnames or ())
        return [row[column] for row in rows]
    except csv.Error as error:
        raise ScalexError(
            f"concept file {path} is no table ({error}, line {rows.line_num + 1})", "Mend that line"
        ) from None


def _read_json_lines(path: Path, column: str | None) -> Iterable[object]:
    rows = []
    for number, line in enumerate(read_text(path, "concept file").splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError as error:
            raise ScalexError(f"concept file {path} has bad JSON in line {number}: {error.msg}", "Mend it") from None
        if not isinstance(row, dict):
            raise ScalexError(f"concept file {path} holds no object in line {number}", "Write one {...} a line")
        rows.append(row)
    column = _pick_column(path, column, list(dict.fromkeys(key for row in rows for key in row)))
    return [row.get(column) for row in rows]


def _read_parquet(path: Path, column: str | None) -> Iterable[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            column = _pick_column(path, column, pq.read_schema(file).names)
            cells: list[object] = pq.read_table(file, columns=[column]).column(0).to_pylist()
    except OSError as error:
        raise ScalexError(f"concept file {path} cannot be read ({error.strerror})", "Check the path") from None
    except pa.ArrowInvalid:
        raise ScalexError(f"concept file {path} is no Parquet", "Save it as Parquet, or name it by its kind") from None
    return cells


def _pick_column(path: Path, column: str | None, names: Sequence[str]) -> str:
    """The column asked for; the only one where none is."""
    if column is None and len(names) == 1:
        return names[0]
    has = f"It has: {', '.join(names)}" if names else "It is empty"
    if column is None:
        raise ScalexError(f"concept file {path} needs `concepts.column`", has)
    if column not in names:
        raise ScalexError(f"concept file {path} has no column {column!r}", has)
    return column


_READERS: dict[str, Callable[[Path, str | None], Iterable[object]]] = {
    ".txt": _read_lines,
    ".csv": partial(_read_table, delimiter=","),
    ".tsv": partial(_read_table, delimiter="\t"),
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
