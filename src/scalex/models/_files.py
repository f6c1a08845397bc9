"""Where the parts of a model lie on disk, that none of them is a pickle, and a digest of what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from scalex.errors import ScalexError

__all__ = ["config_file", "digest", "lora_file", "public", "quiet", "read_json", "resolve", "weight_files"]

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_PARTS = ["*.json", "*.safetensors", "unet/*", "scheduler/*"]
_SKIPPED = ["*.fp16.safetensors", "*non_ema*", "*.msgpack", *(f"*{p}" for p in _PICKLES)]


def resolve(source: str | Path, *, pipeline: bool = False) -> Path:
    """The local folder (or file) of a path or hub id; a hub id is downloaded, or found in the hub's cache.

    `pipeline` says that it is a whole pipeline, of which `diffusers` fetches just what it needs.

    Raises:
        ScalexError: there is no such path, and the hub has no such model, cannot be reached, or the download fails.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(str(source)):
        raise ScalexError(f"no folder {source} here", "Give a folder in diffusers' form, or a hub id (owner/name)")
    try:
        return Path(_download(str(source), pipeline))
    except Exception as error:  # an open set: the hub's client, two HTTP libraries, a downloader in Rust
        raise _hub_error(str(source), error) from error


def _download(hub_id: str, pipeline: bool) -> str:
    import diffusers

    with quiet():
        if pipeline:
            found = diffusers.DiffusionPipeline.download(hub_id, use_safetensors=True, safety_checker=None)
        else:
            found = huggingface_hub.snapshot_download(hub_id, allow_patterns=_PARTS, ignore_patterns=_SKIPPED)
    return str(found)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    # The downloader in Rust loses the number, but keeps the text.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def _is_no_connection(error: BaseException) -> bool:
    # By name, since Python, requests and httpx each have their own.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, LocalEntryNotFoundError) or not kinds.isdisjoint(
        {"ConnectionError", "TimeoutError", "Timeout", "TransportError", "gaierror"}
    )


def _is(kind: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, kind)


_HERE = "no folder {source} here and "
_CHECK = "Check the name and the connection, or give the folder of a model in diffusers' form"

# What is wrong and the way out, by a test of the causes; the first that fits any of them counts.
_HUB_ERRORS: tuple[tuple[Callable[[BaseException], bool], str, str], ...] = (
    (
        _is_full,
        "disk full at {cache} while {source} was downloaded",
        "Free space, or set HF_HOME to a folder on another disk, and run the same again",
    ),
    (_is(GatedRepoError), _HERE + "the hub gives it only to those who accepted its licence", _CHECK),
    (_is(RepositoryNotFoundError), _HERE + "the hub has no model of that name (or it is private)", _CHECK),
    (
        lambda error: "necessary `safetensors` weights" in str(error),
        _HERE + "the hub holds it only as pickles, which can run code when they are loaded",
        "Convert it where you trust it: load it with diffusers, then `save_pretrained(folder)`",
    ),
    (_is_no_connection, _HERE + "the hub can't be reached", _CHECK),
    (
        _is(EntryNotFoundError),
        "{source} is no diffusion model: the hub has no model_index.json of it",
        "Give one that has a model_index.json",
    ),
)


def _hub_error(source: str, error: Exception) -> ScalexError:
    """Why a model of the hub could not be downloaded."""
    causes = tuple(_chain(error))
    for fits, wrong, way_out in _HUB_ERRORS:
        if any(map(fits, causes)):
            return ScalexError(wrong.format(source=source, cache=huggingface_hub.constants.HF_HUB_CACHE), way_out)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    wrong = f"no folder {source} here and its download from the hub failed ({reason})"
    return ScalexError(wrong, "Try again, or give the folder of a model in diffusers' form")


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back the libraries' own messages and bars: what is wrong is said once, by scalex."""
    import diffusers  # here, not above: commands that need no model then start without it
    import transformers

    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [log.get_verbosity() for log in logs]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for log in logs:
        log.set_verbosity(log.CRITICAL)
    try:
        yield
    finally:
        for log, verbosity in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ScalexError: the file is missing, or is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScalexError(f"{path} is missing", "The model's folder is not whole: download or save it again") from None
    except (ValueError, OSError) as error:
        raise ScalexError(f"{path} can't be read as JSON ({error})", "Download or save the model again") from None
    if not isinstance(found, dict):
        raise ScalexError(f"{path} holds no JSON object", "Download or save the model again")
    return found


def config_file(folders: Iterable[Path], name: str) -> Path | None:
    """The first file called `name` in `folders`, if any."""
    return next((f / name for f in folders if (f / name).is_file()), None)


def weight_files(folder: Path, stem: str) -> tuple[tuple[Path, ...], str | None]:
    """The safetensors files that hold a part's weights, and their variant ("fp16") where only that one is there.

    Raises:
        ScalexError: there are none, or only pickles.
    """
    for variant in (None, "fp16"):
        name = f"{stem}.{variant}" if variant else stem
        if (folder / f"{name}.safetensors").is_file():
            return (folder / f"{name}.safetensors",), variant
        index = folder / (f"{stem}.safetensors.index.{variant}.json" if variant else f"{stem}.safetensors.index.json")
        if index.is_file():
            return tuple(folder / n for n in sorted(set(read_json(index)["weight_map"].values()))), variant
    raise _no_weights(folder)


def _no_weights(folder: Path) -> ScalexError:
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES)
    if pickles:
        return ScalexError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is loaded",
            "Convert it where you trust it: load it with diffusers, then `save_pretrained(folder)` writes safetensors",
        )
    found = ", ".join(sorted(p.name for p in folder.glob("*"))[:5]) or "nothing"
    return ScalexError(f"{folder} holds no safetensors weights (found: {found})", "Download or save the model again")


def lora_file(source: str | Path) -> Path:
    """The one safetensors file of a LoRA: a file, a folder that holds it, or a hub id.

    Raises:
        ScalexError: there is none, it is a pickle, or there are several and none has diffusers' name.
    """
    path = resolve(source)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ScalexError(f"the LoRA {path} is not a safetensors file", "Convert it to safetensors")
        return path
    found = sorted(path.glob("*.safetensors"))
    named = [p for p in found if p.name == "pytorch_lora_weights.safetensors"]
    if not found:
        raise _no_weights(path)
    if len(found) > 1 and not named:
        raise ScalexError(f"{path} holds {len(found)} safetensors files", "Name the LoRA's file itself")
    return (named or found)[0]


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says only where, or by which version, it was written."""
    private = {"transformers_version", "name_or_path"}
    return {k: v for k, v in config.items() if k == "_class_name" or not (k.startswith("_") or k in private)}


def digest(parts: Mapping[str, Iterable[Path]]) -> str:
    """sha256 over the content of the files of each part, whatever folder they lie in and whenever they were written."""
    total = hashlib.sha256()
    for role in sorted(parts):
        for path in parts[role]:
            total.update(f"{role}/{path.name} {_file_digest(path)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _content_digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=512)
def _content_digest(path: Path, size: int, mtime_ns: int) -> str:
    """sha256 of one file; size and time are there so that a changed file is read again in the same process."""
    if path.name.endswith("config.json"):
        return hashlib.sha256(json.dumps(public(read_json(path)), sort_keys=True).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
