"""The folder of a run: what it holds, and how that is written and read back.

`manifest.json`, `findings.parquet` and `findings.json`, `tables/` (what analyses leave beside their findings),
`texts.safetensors` (the text encoder's embeddings of the prompts), `pictures/`, `validation/` (findings and tables of
each validation) and `report.html`. A folder may be moved: what lies in it is named relative to it.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, UInt8

from scalex import scratch
from scalex.disk import disk_errors, local_folder, write_atomic
from scalex.errors import ScalexError
from scalex.places import is_remote
from scalex.records import Finding

__all__ = [
    "command_line",
    "kept_store",
    "load_embeddings",
    "load_pictures",
    "load_tables",
    "load_validations",
    "make_folder",
    "read_findings",
    "read_manifest",
    "save_embeddings",
    "save_manifest",
    "save_pictures",
    "save_tables",
    "stamp_validation",
    "store_address",
    "store_of",
    "validation_folder",
    "with_evidence",
]

_NEEDED = ("spec", "recipes", "store")  # without which a manifest is not one of ours
_PICTURES = "pictures"
_TABLES = "tables"
_TEXTS = "texts.safetensors"
_VALIDATION = "validation"
_TRIED = ("defaults", "rates")  # analyses whose claims a push can bear out
_CLAIM = ["target", "attribute", "value"]
_SAME = ("recipes", "prompts_hash", "first_seed", "seeds")  # what names the latents of a run


def make_folder(out: str | Path) -> Path:
    """The folder of a run, made and found writable before anything is spent on it.

    Raises:
        ScalexError: it cannot be written to.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ScalexError(f"cannot write to {folder}: {error.strerror}", "Choose another folder with --out") from None
    return folder


def store_of(folder: Path, store: str | Path | None) -> str:
    """The address of the store of a run: the one that is named, or else that in its own folder.

    Raises:
        ScalexError: it is neither a folder nor in an object store.
    """
    if store and is_remote(store):
        return str(store)
    return str(local_folder(store) if store else folder / "store")


def store_address(folder: Path, store: str) -> str:
    """How the manifest names the store: relative to the run where it lies in it, so that a run can be moved."""
    if is_remote(store):
        return store
    place, run = Path(store).resolve(), folder.resolve()
    return str(place.relative_to(run) if place.is_relative_to(run) else place)


def kept_store(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The address of the store that the manifest of a run names."""
    named = str(manifest["store"])
    return named if is_remote(named) else str((folder / named).absolute())


def save_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, whole or not at all.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    with disk_errors(folder, option="--out"):
        write_atomic(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def read_manifest(run: str | Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a run and its manifest.

    Raises:
        ScalexError: there is none, it is damaged, or another program wrote it.
    """
    folder = Path(run)
    path = folder / "manifest.json"
    if not path.is_file():
        way_out = "Name the folder that `scalex audit --out` wrote"
        raise ScalexError(f"{folder} is no run: it has no manifest.json", way_out)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ScalexError(f"{path} is damaged", "Run the audit again: what was captured is kept") from None
    lacking = [k for k in _NEEDED if k not in manifest] if isinstance(manifest, dict) else list(_NEEDED)
    if lacking:
        raise ScalexError(f"{path} is no manifest of a run: it lacks {', '.join(lacking)}", "Name another folder")
    return folder, manifest


def read_findings(folder: Path) -> pd.DataFrame:
    """The findings of an analysed run.

    Raises:
        ScalexError: there are none, or the table is damaged.
    """
    table, way_out = folder / "findings.parquet", f"Run: scalex analyze {folder}"
    if not table.is_file():
        raise ScalexError(f"{folder} holds no findings", way_out)
    try:
        return pd.read_parquet(table)
    except (pa.ArrowInvalid, OSError):
        raise ScalexError(f"{table} is damaged", way_out) from None


def save_pictures(pictures: Mapping[str, UInt8[np.ndarray, "n height width 3"]], folder: Path) -> dict[str, str]:
    """One PNG strip a concept; returns the files by concept.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    from PIL import Image

    files = {}
    with disk_errors(folder / _PICTURES, option="--out"):
        (folder / _PICTURES).mkdir(exist_ok=True)
        for i, (concept, row) in enumerate(pictures.items()):
            files[concept] = f"{_PICTURES}/{i:04d}.png"
            Image.fromarray(np.concatenate(list(row), axis=1)).save(folder / files[concept], optimize=True)
    return files


def load_pictures(folder: Path, files: Mapping[str, str]) -> dict[str, list[UInt8[np.ndarray, "height width 3"]]]:
    """The pictures of each concept that are there and whole."""
    from PIL import Image, UnidentifiedImageError

    rows = {}
    for concept, file in files.items():
        try:
            strip = np.asarray(Image.open(folder / file).convert("RGB"))
        except (OSError, UnidentifiedImageError):
            continue  # a report without a picture is better than none
        rows[concept] = np.split(strip, max(1, strip.shape[1] // strip.shape[0]), axis=1)
    return rows


def save_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """One Parquet file a table, in place of those of an earlier analysis.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    place = folder / _TABLES
    with disk_errors(place, option="--out"):
        for stale in place.glob("*.parquet"):
            stale.unlink()
        for name, table in tables.items():
            place.mkdir(exist_ok=True)
            table.to_parquet(place / f"{name}.parquet", index=False)


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of an analysed run by name; those that cannot be read are left out."""
    tables = {}
    for path in sorted((folder / _TABLES).glob("*.parquet")):
        try:
            tables[path.stem] = pd.read_parquet(path)
        except (pa.ArrowInvalid, OSError):
            continue  # a report without a figure is better than none
    return tables


def validation_folder(folder: Path, name: str) -> Path:
    """Where a validation keeps its findings and tables in the folder of a run, made.

    Raises:
        ScalexError: the folder cannot be written to.
    """
    place = folder / _VALIDATION / name
    with disk_errors(place, option="--run"):
        place.mkdir(parents=True, exist_ok=True)
    return place


def stamp_validation(place: Path, manifest: Mapping[str, Any]) -> None:
    """Says which latents a validation speaks of; it is shown with no others."""
    write_atomic(place / "of.json", json.dumps({key: manifest.get(key) for key in _SAME}) + "\n")


def load_validations(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Findings and tables of each validation of this run as its manifest is now; not those of an earlier one."""
    same = {key: manifest.get(key) for key in _SAME}
    stamps = [path for path in sorted((folder / _VALIDATION).glob("*/of.json")) if _holds(path, same)]
    return [(read_findings(path.parent), load_tables(path.parent)) for path in stamps]


def with_evidence(findings: pd.DataFrame, evidence: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The findings with what validations of the run say causally of the same target, attribute and value, else NaN.

    Args:
        evidence: findings of validations, as `load_validations` gives them; the last one that speaks of a claim counts.
    """
    causal = list(Finding.causal())
    told = [f.dropna(subset="causal_slope") for f in evidence if "causal_slope" in f.columns]
    bare = findings.drop(columns=causal, errors="ignore")
    if not told:
        return bare.assign(**dict.fromkeys(causal, float("nan")))
    known = pd.concat(told)[[*_CLAIM, *causal]].drop_duplicates(_CLAIM, keep="last")
    joined = bare.merge(known, on=_CLAIM, how="left")
    joined.loc[~joined["analysis"].isin(_TRIED), causal] = float("nan")
    return joined


def _holds(path: Path, content: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == content)
    except (OSError, ValueError):
        return False  # as if not there


def save_embeddings(folder: Path, embeddings: Float32[np.ndarray, "prompts dim"], prompts: str) -> None:
    """Writes the text encoder's embeddings of the prompts whose hash this is.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    from safetensors.numpy import save

    with disk_errors(folder, option="--out"):
        write_atomic(folder / _TEXTS, save({"embeddings": embeddings}, {"prompts_hash": prompts}))


def load_embeddings(folder: Path, prompts: str) -> Float32[np.ndarray, "prompts dim"] | None:
    """The embeddings of the prompts whose hash this is; None where they were not kept."""
    from safetensors import SafetensorError, safe_open

    path = folder / _TEXTS
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            same = (file.metadata() or {}).get("prompts_hash") == prompts
            return _held(file.get_slice("embeddings")) if same else None
    except (SafetensorError, OSError):
        return None  # as if not kept: an analysis that takes them says so


def _held(written: Any) -> Float32[np.ndarray, "prompts dim"]:
    """A tensor of a file, in memory or, beyond the budget, in a file of its own."""
    held = scratch.array(written.get_shape(), np.float32)
    for rows in scratch.blocks(held):
        held[rows] = written[rows]
    return held


def command_line(otherwise: str) -> str:
    """The command line that was typed, as it can be typed again; `otherwise` where scalex was called from Python."""
    called = Path(sys.argv[0])
    typed = called.name == "scalex" or called.parts[-2:] == ("scalex", "__main__.py")
    return shlex.join(["scalex", *sys.argv[1:]]) if typed else otherwise
