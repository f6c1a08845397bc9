"""What every score of an organism starts from: its truth, and the audits that it asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scalex.auditing import Audit, analyze, capture_run, latents_of
from scalex.capture import Progress
from scalex.jobs import prepare
from scalex.organisms import EMBEDDED_UNET
from scalex.organisms.readout import Truth
from scalex.records import Latents, Reading

__all__ = ["Bed"]


@dataclass(frozen=True)
class Bed:
    """An organism that is being scored.

    Attributes:
        folder: of the organism; None is the embedded one.
        truth: what was planted, and the pictures it was planted in. No analysis ever sees it.
        out: where captures and drawn truth are kept, so that scoring again captures and draws nothing anew.
        seeds: of an audit. images: pictures behind each realised share.
        progress: called with what is done and what there is to do.
    """

    folder: Path | None
    truth: Truth
    out: Path
    seeds: int
    images: int
    progress: Progress | None = None

    @property
    def store(self) -> Path:
        """The folder of the latents that all scores share: a sample that two of them ask for is captured once."""
        return self.out / "store"

    @cached_property
    def things(self) -> dict[str, str]:
        """The names of all plain pictures (objects, foods, animals, ...), with their Unicode subgroups."""
        return {shown.name: shown.subgroup for shown in self.truth.shown if shown.gender < 0}

    def spec(self, **asked: object) -> dict[str, object]:
        """The spec of an audit of this organism, through its distilled U-Net; keys as in `AuditSpec`."""
        model = {"model": str(self.folder), "unet": EMBEDDED_UNET} if self.folder else {}
        return {"seeds": self.seeds, **model, **asked}

    def audit(self, name: str, **asked: object) -> tuple[Audit, Mapping[Reading, Latents]]:
        """An audit in `out/name` over the shared store, analysed, with its latents; no pictures, no report.

        Raises:
            ScalexError: as `scalex.audit`.
        """
        job = prepare(spec=self.spec(**asked))
        folder, _ = capture_run(job, self.out / name, self.store, self.progress)
        result = analyze(folder)
        return result, latents_of(result)
