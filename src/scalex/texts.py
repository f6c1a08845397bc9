"""The conditions of texts: each text is encoded once, and kept on the disk for the next run of the same model."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from scalex.batches import halved, unless_out_of_memory
from scalex.caches import cache_folder
from scalex.models import Condition, Model

__all__ = ["Kept", "Texts"]

_AHEAD = 64  # texts that are encoded together
_MOST = 8 << 30  # bytes of conditions on the disk
_NONE = "\0"  # no text; not the text "", since some models take zeros for it


class Texts:
    """The conditions of samples' texts: each text is encoded once, shortly before it is used, and then let go.

    Attributes:
        encoded: how many were encoded so far; those that an earlier run kept are not.
        empty: the condition of no text, where it is needed.
    """

    def __init__(self, model: Model, texts: Sequence[str], truncate: bool, needs_empty: bool) -> None:
        """
        Args:
            texts: in the order of their use, as often as they are used.
        """
        self._model, self._truncate = model, truncate
        self._left = Counter(texts)
        self._queue = list(self._left)
        self._ahead = _AHEAD
        self._known: dict[str, Condition] = {}
        self._kept = Kept(model, truncate, len(self._queue))
        self.encoded = 0
        self.empty = self._of_none() if needs_empty else None

    def of(self, texts: Sequence[str]) -> Condition:
        """The conditions of a batch."""
        while not all(text in self._known for text in texts):
            self._go_on()
        return Condition.join([self._known[text] for text in texts])

    def release(self, texts: Sequence[str]) -> None:
        """Says that these uses are done with."""
        self._left.subtract(texts)
        for text in set(texts):
            if not self._left[text]:
                del self._known[text]

    def _of_none(self) -> Condition:
        found = self._kept.read(_NONE)
        if found is None:
            found, self.encoded = self._model.empty(), self.encoded + 1
            self._kept.write({_NONE: found})
        return found

    def _go_on(self) -> None:
        """The next texts of the queue: from the disk, or encoded now."""
        ahead = self._queue[: self._ahead]
        kept = {text: found for text in ahead if (found := self._kept.read(text)) is not None}
        new = [text for text in ahead if text not in kept]
        made = unless_out_of_memory(lambda some: self._model.encode(some, self._truncate), new) if new else None
        if new and made is None:
            self._ahead = halved(len(new))
            return
        rows = dict(zip(new, made.rows(), strict=True)) if made is not None else {}
        self._kept.write(rows)
        self.encoded += len(rows)
        self._queue = self._queue[len(ahead) :]
        self._known |= kept | rows


class Kept:
    """Conditions on the disk, one file a text, by all that determines them. Where the disk refuses, none are kept: what
    is lost is a little time.

    There are 8 GiB at most: what was used least recently goes. A run whose texts would fill half of that keeps none.
    """

    def __init__(self, model: Model, truncate: bool, texts: int) -> None:
        self._root, self._device, self._texts = cache_folder("conditions"), str(model.device), texts
        cut = "-cut" if truncate else ""
        self._name = f"{model.fingerprint[:32]}-{model.device.type}-{model.precision}{cut}"
        self._writes = self._root is not None

    def read(self, text: str) -> Condition | None:
        """That of a text, if it is there and whole."""
        path = self._path(text)
        if path is None or not path.is_file():
            return None
        with suppress(OSError, SafetensorError):  # damaged: encoded anew, and replaced
            found = safetensors.torch.load_file(path, device=self._device)
            os.utime(path)
            return Condition(found)
        return None

    def write(self, conditions: Mapping[str, Condition]) -> None:
        """Keeps them."""
        for text, condition in conditions.items() if self._writes else ():
            data = safetensors.torch.save({name: part.contiguous().cpu() for name, part in condition.parts.items()})
            self._writes = len(data) * self._texts <= _MOST // 2
            try:
                self._put(text, data)
            except OSError:
                self._writes = False

    def _path(self, text: str) -> Path | None:
        name = hashlib.sha256(text.encode()).hexdigest()
        return self._root / self._name / name[:2] / f"{name}.safetensors" if self._root else None

    def _put(self, text: str, data: bytes) -> None:
        path = self._path(text)
        if not self._writes or path is None or self._root is None:
            return
        _make_room(self._root, len(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(data)  # not flushed: a file that a loss of power cut off is found damaged when it is read
        draft.replace(path)


_room: dict[Path, int] = {}  # bytes that are still free under each root, as far as this process knows


def _make_room(root: Path, size: int) -> None:
    """So that so many bytes more may be written; a quarter of the files goes where they may not."""
    files = list(root.rglob("*.safetensors")) if _room.get(root, 0) < size else []
    if root not in _room:
        _room[root] = _MOST - sum(file.stat().st_size for file in files)
    if size > _room[root]:
        oldest = sorted(files, key=lambda file: file.stat().st_mtime)
        for file in oldest[: len(oldest) // 4 + 1]:
            _room[root] += file.stat().st_size
            file.unlink(missing_ok=True)
    _room[root] -= size
