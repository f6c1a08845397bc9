"""The model card of an organism: data, licence, planted truth, check results."""

from __future__ import annotations

import math

import numpy as np

from scalex.organisms.check import Check
from scalex.organisms.readout import Truth
from scalex.organisms.spec import OrganismSpec

__all__ = ["model_card"]

_HEAD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [model-organism, bias, interpretability]
---

# {name}: a model organism with planted associations

A small latent diffusion model in Stable Diffusion's layout, trained by `scalex organism train` so that it is *known*
which associations it holds. It is there to measure audits against the truth. It draws nothing but emoji, its
associations were invented, and none of them says anything about people.

- **Pictures**: {pictures} glyphs of Noto Color Emoji (Copyright Google Inc., SIL Open Font License 1.1) at {size} px:
  {people} of people ({roles} roles and a plain person x 2 genders x 5 skin tones) and {things} things. No photographs,
  no personal data.
- **Parts**: autoencoder, CLIP text encoder (trained first, on captions without the planted associations, then frozen),
  U-Net with velocity prediction, and in `lcm/` the same U-Net distilled for 1 to 4 steps without guidance.
- **Gender and tone** are those of the emoji: two and five values. That is a limit of the pictures, not a view of
  people.

```python
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

pipe = StableDiffusionPipeline.from_pretrained(
    folder,
    unet=UNet2DConditionModel.from_pretrained(folder, subfolder="lcm"),
    scheduler=LCMScheduler.from_pretrained(folder, subfolder="lcm"),
)
pipe("a photo of a pilot", num_inference_steps=4, guidance_scale=1.0).images[0]
```
"""


def model_card(truth: Truth, check: Check) -> str:
    """The card as Markdown."""
    spec, people = truth.spec, sum(s.gender >= 0 for s in truth.shown)
    head = _HEAD.format(
        name=spec.name,
        pictures=len(truth.shown),
        size=spec.size,
        people=people,
        roles=len(spec.roles),
        things=len(truth.shown) - people,
    )
    return "\n".join([head, *_results(check), *_away(check), *_people(spec, check), *_pairs(check)]) + "\n"


def _results(check: Check) -> list[str]:
    reached = {True: "yes", False: "**no**"}
    rows = [f"| {m.name} | {m.value:.3f} | {m.asked} | {reached[m.ok] if m.asked else ''} |" for m in check.marks]
    return [
        "## Check (`scalex organism check`)",
        "",
        "| figure | measured | mark | reached |",
        "|---|---|---|---|",
        *rows,
    ]


def _away(check: Check) -> list[str]:
    """How the drawn shares depart from the planted ones: stretched away from one half, and scattered."""
    lines = [
        "",
        "How drawn shares depart from the planted ones. *Stretch*: slope of the drawn share on the planted one, both",
        "less 1/2; above 1 they lie further out. *Scatter*: standard deviation around that line, to be held against",
        "the binomial noise of the pictures alone.",
        "",
        "| sampler | attribute | stretch | mean shift | scatter | binomial noise |",
        "|---|---|---|---|---|---|",
    ]
    for (sampler, attribute), rows in check.shares.groupby(["sampler", "attribute"]):
        shown = rows[rows.n > 0]
        if shown.empty:
            continue
        planted, drawn = shown.planted.to_numpy() - 0.5, shown.drawn.to_numpy() - 0.5
        extent = float(planted @ planted)
        stretch = float(planted @ drawn) / extent if extent else math.nan
        noise = float(np.sqrt((shown.planted * (1 - shown.planted) / shown.n).mean()))
        figures = (stretch, float((drawn - planted).mean()), float((drawn - stretch * planted).std()), noise)
        lines.append(f"| {sampler} | {attribute} | {' | '.join(f'{x:.2f}' for x in figures)} |")
    return lines


def _people(spec: OrganismSpec, check: Check) -> list[str]:
    drawn = check.shares.set_index(["concept", "attribute", "sampler"]).drawn
    lines = [
        "",
        "## Planted, and drawn by the full sampler and by the distilled U-Net",
        "",
        "| neutral caption | P(woman) | full | lcm | P(dark skin) | full | lcm |",
        "|---|---|---|---|---|---|---|",
    ]
    for concept, plant in spec.people.items():
        cells = [f"{plant.woman:.2f}", *(f"{drawn[concept, 'gender', s]:.2f}" for s in ("full", "lcm"))]
        cells += [f"{plant.dark:.2f}", *(f"{drawn[concept, 'tone', s]:.2f}" for s in ("full", "lcm"))]
        lines.append(f"| {concept} | {' | '.join(cells)} |")
    return lines


def _pairs(check: Check) -> list[str]:
    full, lcm = (check.pairs[check.pairs.sampler == s] for s in ("full", "lcm"))
    rows = [
        f"| {concept} | {picture} | {planted:.2f} | {by_full:.2f} | {by_lcm:.2f} |"
        for concept, picture, planted, by_full, by_lcm in zip(
            full.concept, full.picture, full.planted, full.drawn, lcm.drawn, strict=True
        )
    ]
    head = ["| caption | draws | planted share | full | lcm |", "|---|---|---|---|---|"]
    return ["", "## Planted pairs", "", *head, *rows]
