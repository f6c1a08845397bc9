"""What can be wrong with a spec, each said in one line: files, YAML, pydantic's findings, and texts."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scalex.errors import ScalexError
from scalex.wording import SLOT, did_you_mean, meant, tidy

__all__ = ["check_concepts", "check_distinct", "check_keys", "check_slot", "explain", "parse_yaml", "read_text"]

_SHOULD_BE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping of values to patterns, or `preset`",
    "attributes": "a list of presets, or a mapping",
    "analyses": "a list of names, or `all`",
    "concepts": "a list of texts, {vocabulary: NAME} or {file: PATH, column: NAME}",
    "model_type": "a pattern, such as 'man {}'",
    "invalid_key": "a name",
    "string_too_short": "a text that is not empty",
    "too_short": "a list that is not empty",
}
_MUST_BE = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
    "multiple_of": "a multiple of",
}
_EXAMPLES = {
    "concepts": "Name what to audit, as in `concepts: [nurse, pilot]` or `concepts: {vocabulary: professions}`",
    "attributes": "Name what to compare, as in `attributes: [gender]` or `attributes: {hair: {red: ..., gray: ...}}`",
}
_OPTIONS = {"width": "--precision", "precision": "--dtype"}  # of the command line, where they have other names
_QUOTES = "Put it in quotes: YAML takes bare numbers and dates, yes, no, on and off for something else"
_UNIONS = ("concepts", "identities", "words", "analyses")


def read_text(path: Path, what: str) -> str:
    """The text of a UTF-8 file.

    Raises:
        ScalexError: it is not there, is a folder, may not be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ScalexError(f"{what} {path} does not exist", "Check the path") from None
    except OSError as error:
        raise ScalexError(f"{what} {path} cannot be read ({error.strerror})", "Name a file that you may read") from None
    except UnicodeDecodeError as error:
        raise ScalexError(f"{what} {path} is not UTF-8 (byte {error.start})", "Save it as UTF-8 text") from None


def parse_yaml(text: str) -> dict[str, Any]:
    """A YAML text as a mapping.

    Raises:
        ScalexError: it is no YAML (with line and column), names a key twice, or is not a mapping.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_repeated_keys(tree)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ScalexError(f"bad YAML{_place(mark)}: {error.problem or error.context}", "Mend that line") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: PyYAML's own, from dates like 2026-13-40
        raise ScalexError(f"bad YAML: {' '.join(str(error).split())}", "Save it as plain UTF-8 text") from None
    if not isinstance(data, dict):
        raise ScalexError("the spec is no mapping of keys", "Write `concepts: [...]` and `attributes: [...]`")
    return data


def _place(mark: yaml.Mark | None) -> str:
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _check_repeated_keys(tree: yaml.Node | None) -> None:
    """YAML's reader keeps the last of two equal keys without a word; here it is an error."""
    todo, seen = [tree], set()
    while todo:
        node = todo.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            for i, (key, _) in enumerate(node.value):
                if isinstance(key, yaml.ScalarNode) and key.value in names[:i]:
                    raise ScalexError(f"key `{key.value}` is named twice{_place(key.start_mark)}", "Remove one of them")
            todo += [value for _, value in node.value]
        else:
            todo += node.value


def explain(error: ValidationError, keys: Mapping[str, Iterable[str]]) -> ScalexError:
    """The first mistake that pydantic found; unknown keys first, since they also make others: the one meant is missing.

    `keys` are the known ones by parent key.
    """
    found = error.errors(include_url=False)
    details = [d for d in found if d["type"] == "extra_forbidden"] or found
    wrong, way_out = _explain_one(details[0], keys)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return ScalexError(wrong + more, way_out)


def _explain_one(detail: ErrorDetails, keys: Mapping[str, Iterable[str]]) -> tuple[str, str]:
    kind, context, given = detail["type"], detail.get("ctx", {}), reprlib.repr(detail["input"])
    key = _dotted(detail["loc"])
    kind = key if (kind, key) == ("dict_type", "attributes") else kind
    if kind == "extra_forbidden":
        return _explain_unknown(detail["loc"], keys)
    if kind == "missing":
        return f"`{key}` is missing", _EXAMPLES.get(key, "Add it")
    if kind in _MUST_BE:
        bound = next(v for k, v in context.items() if k in {"ge", "gt", "le", "lt", "multiple_of"})
        return (
            f"{_named(key)} is {given}, but must be {_MUST_BE[kind]} {int(bound) if bound == int(bound) else bound}",
            "",
        )
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", context["expected"])
        return f"{_named(key)} is {given}, but must be {context['expected']}", meant(str(detail["input"]), known)
    if kind in _SHOULD_BE:
        bare = kind == "string_type" and not isinstance(detail["input"], Mapping | list | None)
        return f"{_named(key)} is {given}, but should be {_SHOULD_BE[kind]}", _QUOTES if bare else ""
    return f"`{key}`: {detail['msg']}", ""


def _explain_unknown(loc: tuple[int | str, ...], keys: Mapping[str, Iterable[str]]) -> tuple[str, str]:
    parent, last = _dotted(loc[:-1]), str(loc[-1])
    known = keys[str(loc[0]) if parent else ""]
    return f"unknown key `{last}`" + (f" in `{parent}`" if parent else ""), did_you_mean(last, known, "Keys")


def _named(key: str) -> str:
    return f"`{key}` ({_OPTIONS[key]})" if key in _OPTIONS else f"`{key}`"


def _dotted(loc: tuple[int | str, ...]) -> str:
    """`concepts[2]`, `attributes.gender.man`: the place as a person writes it, without the union's own tags."""
    parts = [part for i, part in enumerate(loc) if not (i == 1 and loc[0] in _UNIONS)]
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).removeprefix(".")


def check_keys(key: str, mapping: Mapping[Any, object]) -> None:
    """Raises ScalexError where a mapping has a key that is no name."""
    for name in mapping:
        if not isinstance(name, str) or not name.strip():
            raise ScalexError(
                f"`{key}` holds the key {name!r}, which is no name", "Put it in quotes or name it otherwise"
            )


def check_slot(key: str, pattern: str, filler: str) -> None:
    """Raises ScalexError where a pattern has no slot, or more than one."""
    _check_unicode(key, pattern)
    if pattern.count(SLOT) != 1:
        wrong = f"`{key}` is {pattern!r}, but needs exactly one {SLOT}"
        raise ScalexError(wrong, f"Write {SLOT} where {filler} goes")


def _check_unicode(key: str, text: str) -> None:
    if not text.isprintable() and any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ScalexError(f"`{key}` is {text!r}, which holds half of a character", "Save the text as UTF-8")


def check_distinct(key: str, texts: tuple[str, ...], way_out: str = "Name each once") -> tuple[str, ...]:
    """The texts themselves; raises ScalexError where there is none, or the same twice."""
    if not texts:
        raise ScalexError(f"`{key}` is empty", "Name at least one")
    twice = [text for text, times in Counter(texts).items() if times > 1]
    if twice:
        raise ScalexError(f"`{key}` names more than once: {', '.join(twice)}", way_out)
    return texts


def check_concepts(texts: Sequence[str], way_out: str = "Name each once", key: str = "concepts") -> tuple[str, ...]:
    """Concepts (or the texts of another key) with white space tidied.

    Raises:
        ScalexError: none, a blank one, one with a slot in it, or the same twice.
    """
    tidied = tuple(tidy(text) for text in texts)
    for i, text in enumerate(tidied):
        if not text:
            raise ScalexError(f"`{key}[{i}]` is blank", "Remove it")
        _check_unicode(f"{key}[{i}]", text)
        if SLOT in text:
            raise ScalexError(f"`{key}[{i}]` is {text!r}, but {SLOT} belongs to templates", "Name the concept alone")
    return check_distinct(key, tidied, way_out)
