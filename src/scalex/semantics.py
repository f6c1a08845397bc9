"""Semantics in a hierarchy, from coarse to fine: what pictures may be given more of, said as pairs of prompts.

person:                                   # a group: it only holds others
  gender: {preset: gender}                # from a preset's first value to its second
  dark skin: {from: "{} with light skin", to: "{} with dark skin"}
  glasses: "{} with glasses"              # from the plain concept
indoor work:
  to: [office worker, teacher]            # without {}: in place of the concept; a list is their mean
  finer: {judge: judge, artist: artist}   # tested where the coarse one is among those that move most
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scalex.errors import ScalexError
from scalex.spec import ValuePattern
from scalex.spec_errors import parse_yaml, read_text
from scalex.vocabularies import preset
from scalex.wording import SLOT, did_you_mean, tidy

__all__ = ["KEYS", "PLAIN", "Semantic", "every", "load_hierarchy", "said"]

KEYS = ("from", "to", "finer", "preset")
"""What a semantic is written with; a mapping that has none of them is a group."""

PLAIN = ValuePattern(pattern=SLOT)

_EXAMPLE = "Write names and patterns, as in `glasses: '{} with glasses'` or `age: {from: 'young {}', to: 'old {}'}`"


@dataclass(frozen=True)
class Semantic:
    """Something that a picture may show more of.

    Attributes:
        path: the names that it lies under, and its own.
        before, after: how a concept is said without it and with it; of several, the mean of all counts.
        finer: its kinds.
    """

    path: tuple[str, ...]
    before: tuple[ValuePattern, ...]
    after: tuple[ValuePattern, ...]
    finer: tuple[Semantic, ...] = ()

    @property
    def name(self) -> str:
        """Its path in words: "person > gender"."""
        return " > ".join(self.path)


def every(semantics: tuple[Semantic, ...]) -> Iterator[Semantic]:
    """These and all that are finer."""
    for one in semantics:
        yield one
        yield from every(one.finer)


def said(pattern: ValuePattern, concept: str) -> str:
    """A concept with a semantic; a pattern without a slot stands in the concept's place."""
    return pattern.of(concept) if SLOT in pattern.pattern else pattern.pattern


def load_hierarchy(source: str | Path | Mapping[str, Any]) -> tuple[Semantic, ...]:
    """The coarsest semantics of a YAML or JSON file, or of a mapping; those of groups in the groups' place.

    Raises:
        ScalexError: the file cannot be read, or says something else: where, and how to write it.
    """
    if isinstance(source, Mapping):
        return _checked(source, "the hierarchy")
    told = f"hierarchy {source}"
    try:
        data = parse_yaml(read_text(Path(source), "the hierarchy"))
    except ScalexError as error:
        if "is no mapping" in error.wrong:
            raise ScalexError(f"{told} is no mapping of names", _EXAMPLE) from None
        raise ScalexError(
            error.wrong if str(source) in error.wrong else f"{told}: {error.wrong}", error.way_out
        ) from None
    return _checked(data, told)


def _checked(data: Mapping[Any, Any], told: str) -> tuple[Semantic, ...]:
    found = tuple(_inside(data, (), told))
    if not found:
        raise ScalexError(f"{told} holds no semantics", _EXAMPLE)
    return found


def _inside(data: Any, path: tuple[str, ...], told: str) -> Iterator[Semantic]:
    """The semantics of a group: its own, and those of the groups in it."""
    where = f"{told}, at {' > '.join(path)}," if path else told
    if not isinstance(data, Mapping) or not data:
        raise ScalexError(f"{where} has {data!r} where names and patterns should be", _EXAMPLE)
    for name, node in data.items():
        if not isinstance(name, str) or not name.strip():
            raise ScalexError(f"{where} has a name that is no text: {name!r}", "Put it in quotes")
        yield from _node(node, (*path, name), told)


def _node(node: Any, path: tuple[str, ...], told: str) -> Iterator[Semantic]:
    where = f"{told}, at {' > '.join(path)},"
    if isinstance(node, str | list):
        node = {"to": node}
    if not isinstance(node, Mapping):
        raise ScalexError(f"{where} is {node!r}", _EXAMPLE)
    if not set(node) & set(KEYS):
        yield from _inside(node, path, told)
        return
    for key in node:
        if key not in KEYS:
            raise ScalexError(f"{where} has an unknown key {key!r}", did_you_mean(str(key), KEYS, "Keys"))
    before, after = _ends(node, where)
    finer = tuple(_inside(node["finer"], path, told)) if "finer" in node else ()
    yield Semantic(path, before, after, finer)


def _ends(node: Mapping[str, Any], where: str) -> tuple[tuple[ValuePattern, ...], tuple[ValuePattern, ...]]:
    """How it is said without the semantic, and with it."""
    if "preset" in node:
        if "to" in node or "from" in node:
            raise ScalexError(f"{where} has a preset and patterns", "Write one of the two")
        values = list(preset(str(node["preset"])).values())
        if len(values) != 2:
            raise ScalexError(f"{where} names a preset of {len(values)} values", "Write `from` and `to`")
        return _patterns(values[0], where), _patterns(values[1], where)
    if "to" not in node:
        raise ScalexError(f"{where} does not say what it goes to", "Add `to`, as in `to: '{} with glasses'`")
    before, after = _patterns(node.get("from", SLOT), where), _patterns(node["to"], where)
    if before == after:
        raise ScalexError(f"{where} goes from {node['to']!r} to the same", "Let `to` say something else than `from`")
    return before, after


def _patterns(given: Any, where: str) -> tuple[ValuePattern, ...]:
    listed = given if isinstance(given, list) else [given]
    try:
        found = tuple(ValuePattern.model_validate(one) for one in listed)
    except ValidationError:
        raise ScalexError(f"{where} has {given!r} for a pattern", _EXAMPLE) from None
    if not found:
        raise ScalexError(f"{where} has an empty list of patterns", _EXAMPLE)
    for one in found:
        if one.pattern.count(SLOT) > 1 or not tidy(one.pattern):
            raise ScalexError(f"{where} has {one.pattern!r} for a pattern", "Write one text with {} once, or without")
    return found
