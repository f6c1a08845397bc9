"""The manifest of an audit as the report reads it: what ran, on what, with which rules, at what cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, Required, TypedDict

import yaml

from scalex.errors import ScalexError
from scalex.records import Rules
from scalex.report import numbers
from scalex.wording import fill

__all__ = [
    "Manifest",
    "adaptive",
    "asked",
    "attribute_values",
    "checked_manifest",
    "concepts",
    "listed",
    "rules",
    "templates",
    "variant_example",
]


class Manifest(TypedDict, total=False):
    """Keys the report knows. Only `model` is required; further keys are listed as they are.

    Attributes:
        model: name of the model, as a reader should see it. title: of the report.
        model_fingerprint: digest of weights and configs. unet, lora: what replaced or joined them.
        spec: the audit's spec as plain data (`AuditSpec.model_dump(mode="json")`): attributes, templates, seeds ...
        rules: `asdict(Rules)`; absent: the spec's margin, level (or confidence) and floor, else the defaults.
        sampler, steps, guidance, level, pooling, dtype, device: how latents were read.
        seeds: how many, from first_seed on. templates: the frames around a concept.
        prompts_hash: digest of all prompts in order. n_prompts, n_samples: prompts, and (prompt, seed) pairs.
        n_captured: how many of these this run had to capture. n_forwards: denoiser forwards of this run, and seconds:
            its wall time. flops: floating-point operations behind all samples, captured now or found in the store, and
            flops_of_this_run: of those captured now.
        looks: at undecided concepts, `{seeds, concepts}` each, where seeds were added.
        date: ISO 8601. command: to run it again. versions: package to version. recipes: reading to recipe id.
        notes: sentences on this run, such as unknown words. truth: rows of `{name, value, mark, ok}`.
    """

    model: Required[str]
    title: str
    model_fingerprint: str
    unet: str | None
    lora: str | None
    spec: Mapping[str, Any]
    rules: Mapping[str, Any]
    sampler: str
    steps: int
    guidance: float
    level: int
    pooling: str
    dtype: str
    device: str
    seeds: int
    first_seed: int
    templates: Sequence[str]
    prompts_hash: str
    n_prompts: int
    n_samples: int
    n_captured: int
    n_forwards: int
    seconds: float
    flops: float
    flops_of_this_run: float
    looks: Sequence[Mapping[str, Any]]
    date: str
    command: str
    versions: Mapping[str, str]
    recipes: Mapping[str, str]
    notes: Sequence[str]
    truth: Sequence[Mapping[str, Any]]


def checked_manifest(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest itself.

    Raises:
        ScalexError: it does not name the model.
    """
    if not manifest.get("model"):
        raise ScalexError("the manifest does not name the model", "Give it a text under the key 'model'")
    return manifest


def asked(manifest: Mapping[str, Any], key: str) -> Any:
    """A value of the manifest, or where it has none of its spec; None where neither has one."""
    found = manifest.get(key)
    return (manifest.get("spec") or {}).get(key) if found is None else found


def rules(manifest: Mapping[str, Any]) -> Rules:
    """The rules that findings were judged by."""
    spec = manifest.get("spec") or {}
    given = {"level": spec.get("confidence"), **{f.name: spec.get(f.name) for f in fields(Rules) if f.name != "level"}}
    given |= dict(manifest.get("rules") or {})
    known = {f.name for f in fields(Rules)}
    return Rules(**{name: value for name, value in given.items() if name in known and value is not None})


def attribute_values(manifest: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The values of each attribute, in the order of the spec."""
    named = (manifest.get("spec") or {}).get("attributes") or {}
    return {str(name): tuple(map(str, values)) for name, values in named.items()}


def concepts(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What was asked for; empty where the spec does not list it."""
    held = (manifest.get("spec") or {}).get("concepts") or ()
    listed = held.get("texts") or () if isinstance(held, Mapping) else held
    return tuple(map(str, listed))


def adaptive(manifest: Mapping[str, Any]) -> bool:
    """Whether seeds could be added to undecided concepts, so that intervals hold over all looks together."""
    spec = manifest.get("spec") or {}
    budget = spec.get("budget")  # none: a multiple of the seeds
    return bool(manifest.get("looks")) and (budget is None or budget > spec.get("seeds", budget))


def templates(manifest: Mapping[str, Any]) -> list[str]:
    """The frames around a concept; empty where the manifest does not tell."""
    return [str(template) for template in asked(manifest, "templates") or ()]


def variant_example(manifest: Mapping[str, Any], attribute: str, concept: str) -> tuple[str, list[str]] | None:
    """A concept's neutral prompt and its variants, as an example; None where the spec does not tell."""
    frames = templates(manifest)
    patterns = ((manifest.get("spec") or {}).get("attributes") or {}).get(attribute)
    if not frames or not isinstance(patterns, Mapping):
        return None
    texts = [p if isinstance(p, str) else str((p or {}).get("pattern", "")) for p in patterns.values()]
    if not all("{}" in text for text in texts):
        return None
    return fill(frames[0], concept), [fill(frames[0], fill(text, concept)) for text in texts]


class Block(NamedTuple):
    """A value of several lines, to be shown as it is."""

    text: str


_UNITS = {"seconds": numbers.duration, "flops": numbers.flop, "flops_of_this_run": numbers.flop}
_APART = ("command", "notes", "truth", "title")  # shown elsewhere


def listed(manifest: Mapping[str, Any]) -> list[tuple[str, str | Block]]:
    """Every entry in its own order, as text a person can read; nested ones as YAML."""
    shown = (
        (name, value) for name, value in manifest.items() if name not in _APART and value not in (None, "", [], {})
    )
    return [(str(name).removeprefix("n_").replace("_", " "), _readable(str(name), value)) for name, value in shown]


def _readable(name: str, value: Any) -> str | Block:
    if name in _UNITS and isinstance(value, (int, float)):
        return _UNITS[name](value)
    if isinstance(value, bool) or not isinstance(value, (int, Mapping, list, tuple)):
        return str(value)
    if isinstance(value, int):
        return numbers.count(value)
    plain = json.loads(json.dumps(value, default=str))
    return Block(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=88).strip())
