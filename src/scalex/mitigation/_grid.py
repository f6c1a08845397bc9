"""Pictures before and after, side by side, with their concepts and seeds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from scalex.capture import generate
from scalex.disk import disk_errors, write_atomic
from scalex.jobs import Job
from scalex.mitigation._mitigation import Mitigation
from scalex.steering import Push

__all__ = ["save_grid"]

_SIDE, _GAP, _LABEL, _HEAD = 72, 4, 190, 24
_STEERED = (214, 93, 14)  # the frame of a picture that was steered


def save_grid(job: Job, mitigation: Mitigation, concepts: Sequence[str], seeds: Sequence[int], path: Path) -> Path:
    """Draws a picture of every concept and seed, unsteered above and mitigated below, and saves them as one PNG.

    Steered pictures have a frame; the others are the same as above them. Returns the path.

    Raises:
        ScalexError: the file cannot be written.
    """
    width = _LABEL + len(seeds) * (_SIDE + _GAP)
    height = _HEAD + len(concepts) * (2 * (_SIDE + _GAP) + 2 * _GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, seed in enumerate(seeds):
        draw.text(
            (_LABEL + i * (_SIDE + _GAP), 5), f"seed {seed % 1000}", fill="black", font=ImageFont.load_default(10)
        )
    for row, concept in enumerate(concepts):
        top = _HEAD + row * (2 * (_SIDE + _GAP) + 2 * _GAP)
        text = mitigation.texts[concept][0]
        alphas = [mitigation.alpha_of(concept, text, seed) for seed in seeds]
        _label(draw, font, top, concept, mitigation)
        before, after = _pairs(job, mitigation, concept, [(text, seed) for seed in seeds])
        for line, pictures in enumerate((before, after)):
            for i, pixels in enumerate(pictures):
                place = (_LABEL + i * (_SIDE + _GAP), top + line * (_SIDE + _GAP))
                sheet.paste(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), place)
                if line and alphas[i]:
                    draw.rectangle((*place, place[0] + _SIDE - 1, place[1] + _SIDE - 1), outline=_STEERED, width=2)
    data = io.BytesIO()
    sheet.save(data, format="PNG")
    with disk_errors(path.parent, option="--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data.getvalue())
    return path


def _label(draw: ImageDraw.ImageDraw, font: Any, top: int, concept: str, of: Mitigation) -> None:
    remedy, value = of.remedies[concept], of.values[1]
    draw.text((4, top + 8), concept, fill="black", font=font)
    draw.text((4, top + 26), f"unsteered: {value} {remedy.curve.rates[0]:.0%}", fill="dimgray", font=font)
    under = top + _SIDE + _GAP
    draw.text((4, under + 8), f"mitigated to {remedy.target:.0%}", fill="black", font=font)
    doses = ", ".join(f"{d.alpha:+.1f} for {d.share:.0%}" for d in remedy.doses if d.alpha) or "none"
    draw.text((4, under + 26), f"alpha {doses}", fill="dimgray", font=ImageFont.load_default(11))


def _pairs(
    job: Job, mitigation: Mitigation, concept: str, samples: Sequence[tuple[str, int]]
) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w 3"]]:
    """Pictures of samples, unsteered and mitigated."""
    alphas = {(text, seed): mitigation.alpha_of(concept, text, seed) for text, seed in samples}
    push = Push(mitigation.remedies[concept].vector.direction, alphas)
    return generate(job.model, samples, job.plan), generate(job.model, samples, job.plan, push)
