"""From a spec to ordered samples: concepts, their variants in every template, and the key of a sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import lru_cache
from itertools import islice
from pathlib import Path

from scalex.errors import ScalexError
from scalex.records import ROLES, VARIED, Prompt, Recipe, Role
from scalex.sources import texts_in
from scalex.spec import AuditSpec, ConceptSource, ValuePattern, load_spec
from scalex.spec_errors import check_concepts
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

_KEYS: Mapping[Role, str] = {"concept": "concepts", "identity": "identities", "word": "words"}  # of the spec


def build_prompts(
    spec: AuditSpec, roles: Iterable[Role] = ("concept",), variants: Collection[Role] = VARIED
) -> tuple[Prompt, ...]:
    """Every prompt of an audit in these roles, ordered by role, then by concept, neutral before variants, by template.

    Concepts and the reference are said with all values of all attributes too, those of them that `variants` names (the
    concepts in place of a reference that the spec does not name); identities and words as they are. The role `wording`
    holds the concepts' variants again, where an attribute has another wording.
    Texts that are whole prompts are the same in every template, so that every concept has as many prompts. Prompts of
    different concepts, roles or templates may read the same; they are then one sample.

    Raises:
        ScalexError: the concepts cannot be read, or one brings an article to a template that has one.
    """
    varied = {"concept", *variants} if "reference" in variants and not spec.reference else set(variants)
    return tuple(
        Prompt(_said(template, pattern.of(concept), whole), concept, template, attribute, value, role)
        for role in ROLES
        if role in roles
        for concepts, whole in [_asked(spec, role)]
        for concept in concepts
        for attribute, value, pattern in _forms(spec, role, role in varied)
        for template in spec.templates
    )


def _forms(spec: AuditSpec, role: Role, varied: bool) -> Iterator[tuple[str, str, ValuePattern]]:
    """Attribute, value and pattern of each form in which what is asked in a role is said."""
    if role != "wording":
        yield "", "", ValuePattern(pattern=SLOT)
    for name, values in spec.attributes.items():
        reworded = role == "wording" and any(pattern.also for pattern in values.values())
        if reworded or varied:
            yield from ((name, value, pattern.other if reworded else pattern) for value, pattern in values.items())


def _asked(spec: AuditSpec, role: Role) -> tuple[tuple[str, ...], bool]:
    """What is asked in a role, and whether these are whole prompts."""
    if role == "reference":
        return ((spec.reference,) if spec.reference else ()), False
    key = _KEYS["concept" if role == "wording" else role]
    source = getattr(spec, key)
    return words_of(source, key), isinstance(source, ConceptSource) and source.whole


def _said(template: str, variant: str, whole: bool) -> str:
    if whole:
        return tidy(variant)
    if doubles_article(template, variant):
        wrong = f"template {template!r} with {variant!r} has two articles"
        raise ScalexError(wrong, "Take the article out of the concept or out of the template")
    return tidy(fill(template, variant))


def resolve(spec: AuditSpec) -> AuditSpec:
    """The same spec with its concepts, identities and words listed, so that it says the same without their files.

    Raises:
        ScalexError: they cannot be read.
    """
    return spec.model_copy(update={key: _listed(spec, key) for key in _KEYS.values() if getattr(spec, key) is not None})


def _listed(spec: AuditSpec, key: str) -> tuple[str, ...] | ConceptSource:
    source = getattr(spec, key)
    texts = words_of(source, key)
    whole = isinstance(source, ConceptSource) and source.whole
    return ConceptSource.model_validate({"texts": texts, "whole": True}) if whole else texts


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

    A file is read no further than to the last text that is wanted.

    Raises:
        ScalexError: as `concepts_of`.
    """
    if not isinstance(source, ConceptSource):
        return source or ()
    words, frame = _stream(source)
    some = _only(source.only, set(words), key) if source.only else _distinct(words, source)
    chosen = list(islice(some, source.limit))
    frame = source.frame or frame
    said = chosen if frame == SLOT else [fill(frame, word) for word in chosen]
    return check_concepts(said, "Name each once, or set `distinct: true`", key)


def _stream(source: ConceptSource) -> tuple[Iterable[str], str]:
    """The words of a source, one by one, and the frame that they come in."""
    if source.file:
        return texts_in(Path(source.file), source.column, comments=not source.whole), SLOT
    return (source.texts, SLOT) if source.texts else _words_of_vocabulary(source)


def _distinct(words: Iterable[str], source: ConceptSource) -> Iterator[str]:
    """The words, each once where repeats are to be dropped: by default those of whole texts alone are."""
    drop, seen = source.whole if source.distinct is None else source.distinct, set[str]()
    for word in words:
        if not drop or word not in seen:
            seen.add(word)
            yield word


def _only(asked: Sequence[str], there: Collection[str], key: str) -> Sequence[str]:
    for word in asked:
        if word not in there:
            raise ScalexError(f"`{key}.only` names {word!r}, which is not there", did_you_mean(word, there, "Words"))
    return asked


def _words_of_vocabulary(source: ConceptSource) -> tuple[list[str], str]:
    vocabulary = load_vocabulary(source.vocabulary or "")
    for group in source.groups or ():
        if group not in vocabulary.groups:
            wrong = f"vocabulary {vocabulary.name!r} has no group {group!r}"
            raise ScalexError(wrong, did_you_mean(group, vocabulary.groups, "Groups"))
    if not source.groups:
        return list(vocabulary.words), vocabulary.frame
    return [w for group in source.groups for w in vocabulary.groups[group]], vocabulary.frame
