"""Targets: the share of an attribute's second value that each concept's pictures are to reach."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from scalex.errors import ScalexError
from scalex.wording import did_you_mean

__all__ = ["Target", "shares_of"]

Target: TypeAlias = float | int | str | Path | Mapping[str, Any]
"""The second value's share for all concepts; shares by value for all; or either by concept; or a table's file."""

_SHARES = "Shares are from 0 to 1, and those of both values sum to 1"


def shares_of(
    target: Target, pair: tuple[str, str], known: Sequence[str], concepts: Sequence[str] | None = None
) -> dict[str, float]:
    """The second value's share by concept.

    Args:
        target: see `Target`. A file is CSV (or TSV, by its name): a column `concept`, or the first one, and one or both
            values as columns.
        pair: the two values. known: the concepts that there are.
        concepts: those asked for. A table must hold them, and may hold more; without, all of its own must be known.

    Raises:
        ScalexError: a concept is not known or has no target; a share is no number in 0..1, or shares do not sum to 1;
            the file cannot be read.
    """
    for concept in concepts or ():
        _check_known(concept, known)
    if isinstance(target, str | Path) and not _is_number(target):
        target = _read(Path(target), pair)
    if not isinstance(target, Mapping) or (target and set(target) <= set(pair)):
        share = _share(target, pair, "the target")
        return dict.fromkeys(known if concepts is None else concepts, share)
    for concept in target if concepts is None else ():
        _check_known(concept, known)
    chosen = list(target) if concepts is None else list(concepts)
    for concept in chosen:
        if concept not in target:
            raise ScalexError(f"there is no target for {concept!r}", did_you_mean(concept, target, "Targets"))
    if not chosen:
        raise ScalexError("the targets are empty", "Give a share, or shares by concept")
    return {concept: _share(target[concept], pair, f"the target of {concept!r}") for concept in chosen}


def _check_known(concept: str, known: Sequence[str]) -> None:
    if concept not in known:
        raise ScalexError(f"the spec has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))


def _is_number(text: str | Path) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _share(given: Any, pair: tuple[str, str], what: str) -> float:
    """The second value's share, of one number or of shares by value."""
    if not isinstance(given, Mapping):
        return _number(given, what)
    for value in given:
        if value not in pair:
            raise ScalexError(f"{what} speaks of {value!r}", did_you_mean(str(value), pair, "Values"))
    shares = {value: _number(given.get(value, 0.0), what) for value in pair}
    if abs(sum(shares.values()) - 1) > 1e-3:
        raise ScalexError(f"{what} sums to {sum(shares.values()):g}", _SHARES)
    return shares[pair[1]]


def _number(given: Any, what: str) -> float:
    try:
        share = float(given)
    except (TypeError, ValueError):
        raise ScalexError(f"{what} is {given!r}", _SHARES) from None
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ScalexError(f"{what} is {share:g}", _SHARES)
    return share


def _read(file: Path, pair: tuple[str, str]) -> dict[str, Any]:
    """Targets by concept in a table."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = list(csv.DictReader(text, delimiter="\t" if file.suffix == ".tsv" else ","))
    except FileNotFoundError:
        raise ScalexError(f"there is no file of targets {file}", "Give a share from 0 to 1, or a CSV file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ScalexError(f"the targets in {file} cannot be read: {said}", "Give a share, or a CSV file") from None
    columns = list(rows[0]) if rows else []
    values = [value for value in pair if value in columns]
    if not values:
        wrong = f"{file} has no column {pair[0]!r} or {pair[1]!r}, but {', '.join(map(str, columns)) or 'nothing'}"
        raise ScalexError(wrong, f"Give columns `concept` and {pair[1]!r}: a share from 0 to 1")
    named = "concept" if "concept" in columns else columns[0]
    found: dict[str, Any] = {}
    for line, row in enumerate(rows, start=2):
        what = f"line {line} of {file}"
        if row[named] in found:
            raise ScalexError(f"{what} names {row[named]!r} once more", "Name each concept once")
        shares = {value: _number(row[value], what) for value in values}
        found[str(row[named])] = shares if len(values) == 2 else _second(shares, pair)
    return found


def _second(shares: Mapping[str, float], pair: tuple[str, str]) -> float:
    return shares[pair[1]] if pair[1] in shares else 1 - shares[pair[0]]
