"""An image classifier as a scorer: a local folder of transformers, with its labels mapped to values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from scalex.classifiers import Classifier, load_classifier, of_network
from scalex.errors import ScalexError

__all__ = ["ImageClassification", "image_classification"]


@dataclass(frozen=True, eq=False)
class ImageClassification:
    """A classifier whose labels stand for values; what goes to other labels is none of them.

    Attributes:
        columns: which of the classifier's labels stand for each value.
    """

    classifier: Classifier = field(repr=False)
    attribute: str
    values: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    name: str

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """The probability of each value: the sum over its labels."""
        shares = self.classifier(pictures)
        return np.stack([shares[:, list(own)].sum(1) for own in self.columns], axis=1)


def image_classification(
    source: str | Path | Any,
    attribute: str,
    values: tuple[str, ...],
    labels: Mapping[str, str] | None = None,
    *,
    device: str = "cpu",
) -> ImageClassification:
    """A scorer from a folder that `save_pretrained` wrote, or from a pipeline of transformers.

    Args:
        values: that are told. labels: the value that each label of the model stands for; labels that are left out stand
            for none. By default labels are the values' names, whatever their capitals.

    Raises:
        ScalexError: the folder holds no classifier, or a label or a value is not there.
    """
    if isinstance(source, str | Path):
        classifier = load_classifier(source, device)
        name = f"classifier {classifier.name}"
    else:
        model, processor = getattr(source, "model", None), getattr(source, "image_processor", None)
        if model is None or processor is None or not getattr(model.config, "id2label", None):
            raise ScalexError(f"{source!r} is no image classifier", "Give a folder or an image-classification pipeline")
        name = "classifier"
        classifier = of_network(name, model, processor)
    return ImageClassification(classifier, attribute, tuple(values), _columns(classifier.classes, values, labels), name)


def _columns(
    own: tuple[str, ...], values: tuple[str, ...], labels: Mapping[str, str] | None
) -> tuple[tuple[int, ...], ...]:
    """The labels of each value."""
    known = f"Its labels: {', '.join(own[:20])}"
    if labels is None:
        folded = {value.casefold(): value for value in values}
        labels = {label: folded[label.casefold()] for label in own if label.casefold() in folded}
    for label in labels:
        if label not in own:
            raise ScalexError(f"the classifier has no label {label!r}", known)
    found = tuple(tuple(own.index(label) for label, value in labels.items() if value == wanted) for wanted in values)
    for value, columns in zip(values, found):
        if not columns:
            raise ScalexError(f"no label of the classifier stands for {value!r}", known)
    return found
