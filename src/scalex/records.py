"""The nouns of scalex: frozen records with checked shapes. Nothing here computes; every later stage speaks in these."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from scalex import scratch
from scalex.errors import ScalexError

__all__ = [
    "Finding",
    "Latents",
    "LeanDirection",
    "Prompt",
    "Reading",
    "READINGS",
    "Readings",
    "Recipe",
    "Role",
    "ROLES",
    "VARIED",
    "Rules",
]

Reading: TypeAlias = Literal["text", "picture"]
READINGS: tuple[Reading, ...] = get_args(Reading)
Readings: TypeAlias = Literal["text", "picture", "both"]
"""What a finding was read from; `both` where it speaks of one reading against the other."""

LeanDirection: TypeAlias = Literal["own", "shared", "lda", "pooled"]
"""What leans are measured along (see `scalex.analyses.defaults`)."""

Role: TypeAlias = Literal["concept", "wording", "reference", "identity", "word"]
ROLES: tuple[Role, ...] = get_args(Role)
VARIED: tuple[Role, ...] = ("concept", "reference")  # said with the values of attributes, too
"""What a prompt is there for: a concept that is audited (and its variants in another wording), the neutral reference
(with its variants), an identity that descriptors are held against, or a word of the vocabulary that associations and
names are drawn from."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text and its place in an audit. `attribute` and `value` are empty for the neutral prompt of a concept."""

    text: str
    concept: str
    template: str
    attribute: str = ""
    value: str = ""
    role: Role = "concept"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a captured latent, except the prompt's text and the seed.

    `keep` holds the kept denoising steps, counted from 0. For the text reading the probe is read there; for the picture
    reading the predicted clean latent after that step is noised to timestep `level` and read with the empty prompt.
    `sampler` names the scheduler class and a digest of its configuration. Two latents are comparable, and are stored
    together, exactly when their recipes are equal. `moments` is the number of seeds in a block whose running moments
    are stored in place of single samples (see `scalex.moments`); 0 where samples are stored.
    """

    model: str
    reading: Reading
    sampler: str
    steps: int
    guidance: float
    keep: tuple[int, ...]
    level: int
    probe: str
    pooling: str
    dtype: str
    latent_shape: tuple[int, int, int]
    truncate: bool = False
    moments: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data that names the recipe. `moments` is left out where there are none: older stores do not know it."""
        told = asdict(self)
        return told if self.moments else {name: value for name, value in told.items() if name != "moments"}

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name this recipe."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, repr=False)
class Latents:
    """The latents of one reading: `values[i, j, k]` is that of `prompts[i]`, `seeds[j]`, `steps[k]`.

    Where they are many, `values` lie in a file (see `scalex.scratch`). `embeddings` holds the text encoder's pooled
    embedding of each prompt, where it was kept: what the words alone say, before any denoising. Where a store keeps
    moments, a seed stands for the mean over the `block` of seeds that it begins.

    Raises:
        ScalexError: the shape does not match the labels, or a value is not finite.
    """

    values: Float[np.ndarray, "prompts seeds steps width"]
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    reading: Reading
    embeddings: Float[np.ndarray, "prompts dim"] | None = None
    block: int = 1
    _rows: dict[tuple[Role, str, str, str], list[int]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __repr__(self) -> str:
        """The reading, and how many there are of each label."""
        prompts, seeds, steps, width = self.values.shape
        each = f"seeds in blocks of {self.block}" if self.block > 1 else "seeds"
        shape = f"{prompts:,} prompts x {seeds:,} {each} x {steps:,} steps x {width:,} numbers"
        return f"<Latents, {self.reading} reading: {shape}>"

    def __post_init__(self) -> None:
        labels = (len(self.prompts), len(self.seeds), len(self.steps))
        if self.values.shape[:3] != labels:
            raise ScalexError(f"latents have shape {self.values.shape}, but their labels say {labels}")
        if not scratch.finite(self.values):
            raise ScalexError(
                f"the {self.reading} latents hold values that are not finite", "Run `scalex store verify`"
            )
        for i, p in enumerate(self.prompts):
            self._rows.setdefault((p.role, p.concept, p.attribute, p.value), []).append(i)

    @property
    def concepts(self) -> tuple[str, ...]:
        """The audited concepts, each once, in the order of the audit."""
        return self.named("concept")

    @property
    def n_templates(self) -> int:
        """How many templates each concept, variant and word was said in."""
        return len(next(iter(self._rows.values())))

    @property
    def n_seeds(self) -> int:
        """How many seeds there are behind these latents."""
        return len(self.seeds) * self.block

    def named(self, role: Role) -> tuple[str, ...]:
        """What there is in one role, each once, in the order of the audit."""
        return tuple(dict.fromkeys(p.concept for p in self.prompts if p.role == role))

    def of(
        self, concept: str, attribute: str = "", value: str = "", step: int = -1, role: Role = "concept"
    ) -> Float[np.ndarray, "templates seeds width"]:
        """The latents of one concept (or of one of its variants) at one kept step, over templates and seeds.

        Templates come in the audit's order, the same for every concept and variant.

        Raises:
            ScalexError: nothing of that name was captured in that role.
        """
        return self.values[self._places(concept, attribute, value, role), :, step]

    def embedding(
        self, concept: str, attribute: str = "", value: str = "", role: Role = "concept"
    ) -> Float[np.ndarray, "templates dim"]:
        """The text encoder's embeddings of one concept (or variant), over templates.

        Raises:
            ScalexError: nothing of that name was captured in that role, or no embeddings were kept.
        """
        if self.embeddings is None:
            raise ScalexError("no text embeddings were kept with these latents", "Capture again with the same spec")
        return self.embeddings[self._places(concept, attribute, value, role)]

    def _places(self, concept: str, attribute: str, value: str, role: Role) -> list[int]:
        rows = self._rows.get((role, concept, attribute, value))
        if rows is None:
            what = f"{concept!r}" + (f" with {attribute}={value}" if attribute else "")
            what += "" if role == "concept" else f" as {role}"
            way_out = "Name it in the audit's spec and capture again"
            if attribute:
                way_out += ", for an analysis that takes variants, such as `defaults`"
            raise ScalexError(f"no latents of {what} were captured", way_out)
        return rows


@dataclass(frozen=True, slots=True)
class Rules:
    """How findings are judged. One object for all analyses of an audit.

    Attributes:
        level: coverage of every interval, and 1 - level the false discovery rate after correction.
        margin: half-width of the range in which a lean counts as balanced (in lean units; for shares and weights see
            `margin_of`).
        floor: least separability (AUC over held-out seeds) of the variants below which the answer is *not expressed*.
        resamples: bootstrap resamples. permutations: sign flips.
        seed: of the one random generator that an analysis draws from.
        lean_direction: that leans are measured along.
    """

    level: float = 0.95
    margin: float = 0.1
    floor: float = 0.8
    resamples: int = 2000
    permutations: int = 9999
    seed: int = 0
    lean_direction: LeanDirection = "own"

    def margin_of(self, n_values: int) -> float:
        """The margin around parity of an attribute with so many values: the same part of parity for all.

        (0.1 around one half is a fifth of it. Around one twelfth it would reach below zero, and a value that is never
        drawn would count as balanced.)
        """
        return self.margin * 2 / n_values


@dataclass(frozen=True, slots=True)
class Finding:
    """One claimed effect: a row of the findings table. Unknown numbers are NaN, and `reason` then says why.

    Attributes:
        causal_slope: how much more pictures show the value for each step of alpha along its direction, with its
            interval `causal_low` to `causal_high`; off_target: what else changes there at most, as a share of pictures
            (see `scalex.validation.dose_response`). NaN where that was not tried.
    """

    analysis: str
    reading: Readings
    target: str
    attribute: str
    value: str
    estimate: float
    unit: str
    low: float
    high: float
    p: float
    q: float
    separability: float
    verdict: str
    reason: str
    n_seeds: int
    n_templates: int
    causal_slope: float = math.nan
    causal_low: float = math.nan
    causal_high: float = math.nan
    off_target: float = math.nan

    @staticmethod
    def columns() -> Sequence[str]:
        """The names of the findings table's columns, in order."""
        return [f.name for f in fields(Finding)]

    @staticmethod
    def causal() -> Sequence[str]:
        """Those of its columns that a validation fills in; tables of earlier versions lack them."""
        return ["causal_slope", "causal_low", "causal_high", "off_target"]
