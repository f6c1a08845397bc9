"""A calibrated mitigation: what it holds, whom it steers how much, and the folder that it is saved to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scalex.capture import Sample
from scalex.direction_files import Direction, provenance_from
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.mitigation import _pipelines
from scalex.mitigation._doses import Curve, Dose, Key, dose_at, uniform
from scalex.steering import MOST
from scalex.steering_vectors import SteeringVector
from scalex.wording import did_you_mean

__all__ = ["CONFIG", "VECTORS", "Made", "Mitigation", "Remedy"]

CONFIG, VECTORS = "mitigation.json", "mitigation.safetensors"
_FORMAT, _VERSION = "scalex mitigation", 1
_AGAIN = "Make it again with `scalex mitigate`"


@dataclass(frozen=True)
class Made:
    """How a mitigation was calibrated: it holds for pictures that are made alike.

    Attributes:
        steps: denoising steps. guidance: the scale; 1 for none. seeds: of calibration.
        keep, rule: as for `scalex.mitigation.fit`.
    """

    steps: int
    guidance: float
    seeds: tuple[int, ...]
    keep: float
    rule: str


@dataclass(frozen=True, eq=False)
class Remedy:
    """How one concept is steered.

    Attributes:
        target: the second value's share that is wanted. doses: alphas, and the share of pictures that each is given to.
        curve: what calibration saw. vector: what alpha counts in. note: why nothing is done, or what cannot be reached.
    """

    target: float
    doses: tuple[Dose, ...]
    curve: Curve
    vector: SteeringVector
    note: str = ""

    @property
    def expected(self) -> float:
        """The rate that the doses should give, as calibration saw it."""
        return self.curve.rate(self.doses)

    @property
    def touched(self) -> float:
        """The share of pictures that are steered at all; the others stay to the last bit."""
        return float(sum(dose.share for dose in self.doses if dose.alpha))


@dataclass(frozen=True, eq=False)
class Mitigation:
    """Brings the rates of concepts to their targets, in any pipeline of the model that it was calibrated on.

        mitigation = Mitigation.from_pretrained("fair-nurses")
        with mitigation.apply(pipe):
            pipe("a photo of a nurse", generator=torch.Generator().manual_seed(7))

    Attributes:
        attribute, values: such as "gender", ("man", "woman"); a rate is the second value's.
        remedies: by concept. texts: by concept the prompts of calibration.
        phrases: what a prompt says that asks for a value itself; such prompts are left alone.
        made: how it was calibrated.
    """

    attribute: str
    values: tuple[str, str]
    remedies: Mapping[str, Remedy]
    texts: Mapping[str, tuple[str, ...]]
    phrases: tuple[str, ...]
    made: Made

    def __repr__(self) -> str:
        """Whose rates it brings to their targets."""
        named = ", ".join(list(self.remedies)[:3]) + (", ..." if len(self.remedies) > 3 else "")
        return f"<Mitigation: {self.attribute} ({' or '.join(self.values)}) of {len(self.remedies)} concepts: {named}>"

    @staticmethod
    def fit(job: Any, store: Any, attribute: str, target: Any, **asked: Any) -> Mitigation:
        """Calibrates one: see `scalex.mitigation.fit`."""
        from scalex.mitigation._fitting import fit

        return fit(job, store, attribute, target, **asked)

    # ------------------------------------------------------------------------------------------------ whom, how much

    def concept_of(self, text: str) -> str | None:
        """The concept that a prompt is steered as.

        That whose calibrated prompt it is; else the only one that it names, in whole words, the longest where one holds
        another ("factory worker" and "worker"). None where it names none or several, or asks for a value itself ("a
        woman nurse").
        """
        if text in self._by_text:
            return self._by_text[text]
        if any(_spans(phrase, text) for phrase in self.phrases):
            return None
        found = {concept: _spans(concept, text) for concept in self.remedies}
        spans = [span for own in found.values() for span in own]
        named = [c for c, own in found.items() if any(not _inside(span, spans) for span in own)]
        return named[0] if len(named) == 1 else None

    def alpha_of(self, concept: str | None, text: str, key: Key | int) -> float:
        """How much the picture of a prompt and a seed is steered; 0 for one without a concept.

        Raises:
            ScalexError: there is no such concept.
        """
        if concept is None:
            return 0.0
        where = ("", key) if isinstance(key, int) else key
        return dose_at(self.remedy_of(concept).doses, uniform(text, where))

    def alphas(self, samples: Sequence[Sample]) -> dict[Sample, float]:
        """The alpha of each (text, seed)."""
        return {(text, seed): self.alpha_of(self.concept_of(text), text, seed) for text, seed in samples}

    def remedy_of(self, concept: str) -> Remedy:
        """How a concept is steered.

        Raises:
            ScalexError: there is no such concept.
        """
        if concept not in self.remedies:
            wrong = f"the mitigation has no concept {concept!r}"
            raise ScalexError(wrong, did_you_mean(concept, self.remedies, "Concepts"))
        return self.remedies[concept]

    @cached_property
    def _by_text(self) -> dict[str, str]:
        return {text: concept for concept in self.remedies for text in self.texts.get(concept, ())}

    # ------------------------------------------------------------------------------------------------ a user's pipeline

    @contextmanager
    def apply(
        self,
        pipe: Any,
        *,
        concepts: Sequence[str | None] | None = None,
        seeds: Sequence[int] | None = None,
        check: bool = True,
    ) -> Iterator[Any]:
        """Mitigates whatever a pipeline of diffusers is called for between `with` and its end.

        Each picture's concept is found in its prompt, and its noise in the generators of the call (or in the state of
        the global one, or in `latents`); a picture that is not to be steered is that of the plain pipeline to the last
        bit, as long as its batch is the same. Guidance, `num_images_per_prompt` and batches of different prompts work.

        Args:
            pipe: of the calibrated model.
            concepts: for each prompt of every call, in place of what the prompt names; None leaves one alone.
            seeds: for each picture of every call, in place of its generator's.
            check: whether a pipeline of another model is refused, by the fingerprint of its files.

        Raises:
            ScalexError: the mitigation does not fit the pipeline, or a concept is not known.

        Warns:
            UserWarning: a call makes other steps or another guidance than calibration did.
        """
        for concept in concepts or ():
            if concept is not None:
                self.remedy_of(concept)
        directions = {concept: remedy.vector.direction for concept, remedy in self.remedies.items()}
        _pipelines.check(pipe, list(directions.values()), check)

        def alphas(asked: _pipelines.Asked) -> dict[str, list[float]]:
            """By concept the alpha of each picture of a call, for the concepts of which one is steered."""
            named = [self.concept_of(text) for text in asked.texts] if concepts is None else list(concepts)
            own, keys = asked.spread(named), asked.keys(seeds)
            each = [self.alpha_of(c, text, key) for c, text, key in zip(own, asked.spread(asked.texts), keys)]
            steered = dict.fromkeys(c for c, alpha in zip(own, each) if c is not None and alpha)
            return {c: [alpha if c == other else 0.0 for other, alpha in zip(own, each)] for c in steered}

        with _pipelines.steered(pipe, directions, alphas, self.made.steps, self.made.guidance):
            yield pipe

    # ------------------------------------------------------------------------------------------------ its folder

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes `mitigation.safetensors` (vectors, float32) and `mitigation.json` (all else). Returns the folder.

        Raises:
            ScalexError: the folder cannot be written.
        """
        from safetensors.numpy import save

        place = Path(folder)
        vectors = [remedy.vector for remedy in self.remedies.values()]
        tensors = {"vectors": [v.direction.vector for v in vectors], "centres": [v.centre for v in vectors]}
        arrays = {name: np.ascontiguousarray(np.stack(rows), np.float32) for name, rows in tensors.items()}
        with disk_errors(place, option="--out"):
            place.mkdir(parents=True, exist_ok=True)
            write_atomic(place / VECTORS, save(arrays))
            write_atomic(place / CONFIG, json.dumps(self._told(), ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        return place

    def _told(self) -> dict[str, Any]:
        concepts = {
            name: {
                "target": r.target,
                "doses": [{"alpha": d.alpha, "share": d.share} for d in r.doses],
                "curve": {key: [_or_null(x) for x in row] for key, row in asdict(r.curve).items()},
                "note": r.note,
                "texts": self.texts[name],
                "of": asdict(r.vector.direction.of),
            }
            for name, r in self.remedies.items()
        }
        told = {"format": _FORMAT, "version": _VERSION, "attribute": self.attribute, "values": self.values}
        return told | {"phrases": self.phrases, "made": asdict(self.made), "concepts": concepts}

    @staticmethod
    def from_pretrained(folder: str | Path) -> Mitigation:
        """Reads what `save_pretrained` wrote.

        Raises:
            ScalexError: it is not there, is damaged, or is of a version that is not known.
        """
        place = Path(folder)
        told, tensors = _config(place / CONFIG), _tensors(place / VECTORS)
        try:
            return _mitigation(told, tensors)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ScalexError(f"the mitigation in {place} is damaged", _AGAIN) from None


def _spans(words: str, text: str) -> list[tuple[int, int]]:
    """Where a text has these words, as whole words."""
    return [m.span() for m in re.finditer(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text, re.IGNORECASE)]


def _inside(span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a longer one holds it."""
    return any(s[0] <= span[0] and span[1] <= s[1] and s != span for s in spans)


def _or_null(number: float) -> float | None:
    return None if np.isnan(number) else number


def _config(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScalexError(f"{file.parent} holds no mitigation: it has no {file.name}", "Check the path") from None
    except (OSError, ValueError):
        raise ScalexError(f"{file} cannot be read, or is damaged", _AGAIN) from None
    if not isinstance(told, dict) or told.get("format") != _FORMAT:
        raise ScalexError(f"{file} holds no mitigation", _AGAIN)
    if told.get("version") != _VERSION:
        wrong = f"the mitigation {file} has format version {told.get('version')}, this scalex knows {_VERSION}"
        raise ScalexError(wrong, "Update scalex")
    return told


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(file))
    except FileNotFoundError:
        raise ScalexError(f"{file.parent} holds no mitigation: it has no {file.name}", "Check the path") from None
    except (SafetensorError, OSError):
        raise ScalexError(f"{file} cannot be read, or is damaged", _AGAIN) from None


def _mitigation(told: Mapping[str, Any], tensors: Mapping[str, Any]) -> Mitigation:
    attribute, values, concepts = told["attribute"], tuple(told["values"]), told["concepts"]
    remedies = {
        name: _remedy(
            row, SteeringVector(name, attribute, values, Direction(vector, provenance_from(row["of"])), centre)
        )
        for (name, row), vector, centre in zip(concepts.items(), tensors["vectors"], tensors["centres"], strict=True)
    }
    texts = {name: tuple(row["texts"]) for name, row in concepts.items()}
    made = Made(**(told["made"] | {"seeds": tuple(told["made"]["seeds"])}))
    return Mitigation(attribute, values, remedies, texts, tuple(told["phrases"]), made)


def _direction(row: Mapping[str, Any], vector: Any) -> Direction:
    return Direction(vector, provenance_from(row["of"]))


def _remedy(row: Mapping[str, Any], vector: SteeringVector) -> Remedy:
    curve = Curve(**{key: tuple(np.nan if x is None else float(x) for x in row["curve"][key]) for key in row["curve"]})
    doses = tuple(Dose(float(d["alpha"]), float(d["share"])) for d in row["doses"])
    if not all(abs(d.alpha) <= MOST and d.share >= 0 for d in doses) or abs(sum(d.share for d in doses) - 1) > 1e-6:
        raise ValueError("doses are no mixture over alphas")
    return Remedy(float(row["target"]), doses, curve, vector, str(row["note"]))
