"""Vocabularies and attribute presets: an open set of data files, each found by its name.

A vocabulary is one YAML file in this folder (or in a package that an entry point of the group `scalex.vocabularies`
names): `description`, `source`, `licence`, `words` as a list or as a mapping from groups to lists, and optionally
`frame`, the pattern that makes a concept of a word ("{} person"), and `first`, the words that come before all others.
A preset of an attribute is one YAML file in the folder's `attributes`: `description`, `source`, `licence`, and `values`
as an audit's spec writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from typing import Any

import yaml

from scalex.errors import ScalexError
from scalex.wording import SLOT, did_you_mean

__all__ = ["ENTRY_POINTS", "Vocabulary", "available", "load", "load_vocabulary", "preset", "presets"]

ENTRY_POINTS = "scalex.vocabularies"


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary. `groups` keeps the file's order; a word stands in one group only.

    `frame` makes a concept of a word; it is "{}" where the words are concepts already. `first` are the words that come
    before all others where no group is asked for, so that a limit keeps the best known.
    """

    name: str
    description: str
    source: str
    licence: str
    groups: Mapping[str, tuple[str, ...]]
    frame: str = SLOT
    first: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """All words, group after group, but `first` the first ones."""
        return tuple(dict.fromkeys(chain(self.first, *self.groups.values())))


def available() -> tuple[str, ...]:
    """The names of the vocabularies that are installed, sorted."""
    return tuple(sorted(_find("")))


def load(name: str) -> tuple[str, ...]:
    """The words of one vocabulary.

    Raises:
        ScalexError: no vocabulary of that name, or its file does not hold one.
    """
    return load_vocabulary(name).words


def load_vocabulary(name: str) -> Vocabulary:
    """One vocabulary with its groups, frame and origin.

    Raises:
        ScalexError: no vocabulary of that name, or its file does not hold one.
    """
    file = _pick(name, _find(""), "vocabulary", "Vocabularies")
    data = _read(file, "words")
    words = data["words"]
    groups = words if isinstance(words, dict) else {"": words}
    listed, first = [w for group in groups.values() for w in group], tuple(data.get("first", ()))
    _check_words(file, listed)
    if absent := [w for w in first if w not in listed]:
        raise ScalexError(f"{file.name} names {absent[0]!r} as first, but in no group", "Add it to one")
    return Vocabulary(
        name=name,
        first=first,
        groups={str(group): tuple(members) for group, members in groups.items()},
        **{key: str(data[key]) for key in ("description", "source", "licence", "frame") if key in data},
    )


def presets() -> tuple[str, ...]:
    """The names of the attribute presets that are installed, sorted."""
    return tuple(sorted(_find("attributes")))


def preset(name: str) -> dict[str, Any]:
    """The values of one attribute preset, as an audit's spec writes them.

    Raises:
        ScalexError: no preset of that name.
    """
    values: dict[str, Any] = _read(_pick(name, _find("attributes"), "attribute preset", "Presets"), "values")["values"]
    return dict(values)


def _find(folder: str) -> dict[str, Traversable]:
    """The data files by name; our own come last, so that no other package can change what a name of ours means."""
    packages = [*(e.module for e in entry_points(group=ENTRY_POINTS)), __name__]
    found: dict[str, Traversable] = {}
    for package in packages:
        place = files(package) / folder if folder else files(package)
        if place.is_dir():
            found |= {f.name.removesuffix(".yaml"): f for f in place.iterdir() if f.name.endswith(".yaml")}
    return found


def _pick(name: str, found: Mapping[str, Traversable], what: str, many: str) -> Traversable:
    if name not in found:
        hint = did_you_mean(name, found, many)
        known = "" if hint.startswith(many) else f" {many}: {', '.join(sorted(found))}"
        raise ScalexError(f"there is no {what} {name!r}", hint + known)
    return found[name]


def _read(file: Traversable, holds: str) -> dict[str, Any]:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    lacks = [
        key for key in ("description", "source", "licence", holds) if not (isinstance(data, dict) and data.get(key))
    ]
    if lacks:
        raise ScalexError(f"{file.name} lacks {', '.join(lacks)}", "Complete it as `scalex.vocabularies` describes")
    return dict(data)


def _check_words(file: Traversable, words: Sequence[object]) -> None:
    odd = [w for w in words if not isinstance(w, str)]
    if odd:
        raise ScalexError(f"{file.name} holds {odd[0]!r}, which YAML does not read as text", "Put it in quotes")
    twice = [str(w) for w, times in Counter(words).items() if times > 1]
    if twice:
        raise ScalexError(f"{file.name} holds more than once: {', '.join(twice)}", "Remove the repeats")
