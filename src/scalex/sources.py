"""Files of texts: lines, tables, JSON and Parquet, read as a stream of cells, whatever their size.

Only JSON that is one document (COCO's captions) is parsed whole, and of it only the texts are kept.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scalex.errors import ScalexError
from scalex.wording import tidy

__all__ = ["texts_in"]

_COCO = "annotations", "caption"  # where COCO keeps its captions: a list, and the key of each of its entries
_NAMED = 12  # keys of JSON that are remembered, for the message about one that is not there


def texts_in(path: Path, column: str | None = None, *, comments: bool = True) -> Iterator[str]:
    """The texts of a file, one by one, with white space tidied; blank ones are left out.

    Args:
        column: of a table, of JSON's objects or of Parquet; it may be left out where there is only one.
        comments: whether a line of a text file that begins with # is one.

    Raises:
        ScalexError: no such file or column, a kind that is not known, a cell that is no text, or a file that is not
            what its name says; with the line where that is known.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ScalexError(f"concept file {path} is of no known kind", f"Known: {', '.join(_READERS)}")
    if reader is _read_lines and comments:
        reader = _read_uncommented
    for cell in reader(path, column):
        if not isinstance(cell, str | None):
            raise ScalexError(f"concept file {path} holds {cell!r}, which is no text", "Name a column of texts")
        if text := tidy(cell or ""):
            yield text


def _lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file; `newline` as for `open`."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.encode()
                except UnicodeEncodeError:
                    wrong = f"concept file {path} is not UTF-8 (line {number})"
                    raise ScalexError(wrong, "Save it as UTF-8 text") from None
                yield line
    except FileNotFoundError:
        raise ScalexError(f"concept file {path} does not exist", "Check the path") from None
    except OSError as error:
        wrong = f"concept file {path} cannot be read ({error.strerror})"
        raise ScalexError(wrong, "Name a file that you may read") from None


def _read_lines(path: Path, column: str | None) -> Iterator[object]:
    if column:
        raise ScalexError(f"concept file {path} has no columns, but `concepts.column` is {column!r}", "Remove it")
    yield from _lines(path)


def _read_uncommented(path: Path, column: str | None) -> Iterator[object]:
    return (line for line in _read_lines(path, column) if not str(line).startswith("#"))


def _read_table(path: Path, column: str | None, delimiter: str) -> Iterator[object]:
    rows = csv.DictReader(_lines(path, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        column = _pick_column(path, column, rows.fieldnames or ())
        for row in rows:
            yield row[column]
    except csv.Error as error:
        raise ScalexError(
            f"concept file {path} is no table ({error}, line {rows.line_num + 1})", "Mend that line"
        ) from None


def _read_json_lines(path: Path, column: str | None) -> Iterator[object]:
    names: dict[str, None] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError as error:
            raise ScalexError(f"concept file {path} has bad JSON in line {number}: {error.msg}", "Mend it") from None
        if not isinstance(row, dict):
            raise ScalexError(f"concept file {path} holds no object in line {number}", "Write one {...} a line")
        names |= dict.fromkeys(row)
        if row:
            yield row.get(column or _pick_column(path, column, list(names)))
    _pick_column(path, column, list(names))


def _read_json(path: Path, column: str | None) -> Iterator[object]:
    """A list of texts or of objects, or COCO's document: `annotations`, each with a `caption`."""
    listed, usual = _COCO
    key, names = column or usual, dict[str, None]()

    def slim(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Of every object only what is read, so that a document's pictures and licences take no memory."""
        if len(names) < _NAMED:
            names.update(dict.fromkeys(k for k, _ in pairs))
        return {k: v for k, v in pairs if k in (listed, key)}

    try:
        document = json.loads("".join(_lines(path)), object_pairs_hook=slim)
    except json.JSONDecodeError as error:
        raise ScalexError(f"concept file {path} has bad JSON in line {error.lineno}: {error.msg}", "Mend it") from None
    rows = document.get(listed) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        wrong = f"concept file {path} is neither a list nor a document with `{listed}`"
        raise ScalexError(wrong, 'Write ["...", "..."], or {"annotations": [{"caption": "..."}]} as COCO does')
    if rows and all(isinstance(row, dict) and key not in row for row in rows):
        _pick_column(path, key, list(names))
    return iter([row.get(key) if isinstance(row, dict) else row for row in rows])


def _read_parquet(path: Path, column: str | None) -> Iterator[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file)
            column = _pick_column(path, column, table.schema_arrow.names)
            for batch in table.iter_batches(columns=[column]):
                yield from batch.column(0).to_pylist()
    except OSError as error:
        raise ScalexError(f"concept file {path} cannot be read ({error.strerror})", "Check the path") from None
    except pa.ArrowInvalid:
        raise ScalexError(f"concept file {path} is no Parquet", "Save it as Parquet, or name it by its kind") from None


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
    ".json": _read_json,
}
