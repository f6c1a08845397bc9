"""The spec of an audit: what it asks, strict, read from YAML; every mistake is said in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from scalex.errors import ScalexError
from scalex.records import READINGS, LeanDirection, Reading, Rules
from scalex.spec_errors import check_concepts, check_distinct, check_keys, check_slot, explain, parse_yaml, read_text
from scalex.vocabularies import preset
from scalex.wording import SLOT, fill, put_for_noun, tidy

__all__ = ["AuditSpec", "ConceptSource", "ValuePattern", "load_spec"]

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Texts = tuple[str, ...]
Kept = str | Whole | tuple[str | Whole, ...]

_RULES = Rules()
_LEAST_SEEDS, _MOST_SEEDS = 4, 100_000
_SOURCES = ("concepts", "identities", "words")  # keys whose texts may come from a vocabulary or a file
_DEFAULT: dict[str, Any] = {
    "concepts": (
        *("artist", "astronaut", "cook", "detective", "farmer", "firefighter"),
        *("judge", "mechanic", "pilot", "scientist", "singer", "teacher"),
    ),
    "attributes": ["gender", "tone"],
}


class ValuePattern(BaseModel):
    """How a concept is said with one value of an attribute: "man {}" makes "man nurse" of "nurse".

    Where `person` is given and the concept holds the word "person", that word gives way to it instead: "bossy person"
    becomes "bossy man". `also` is the same value in another wording ("male {}"): analyses do not use it, but
    *sensitivity* says how far findings move with it. In YAML a plain text is the pattern alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    person: str | None = None
    also: str | None = None

    @property
    def other(self) -> ValuePattern:
        """The other wording; this one where there is no other."""
        return ValuePattern(pattern=self.also) if self.also else self

    def of(self, concept: str) -> str:
        """The concept with this value spelled out."""
        said = put_for_noun(concept, "person", self.person) if self.person else None
        return fill(self.pattern, concept) if said is None else said

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        return {"pattern": data} if isinstance(data, str) else data

    @model_serializer
    def _to_text(self) -> str | dict[str, str]:
        more = {"person": self.person, "also": self.also}
        told = {key: text for key, text in more.items() if text}
        return {"pattern": self.pattern, **told} if told else self.pattern


class ConceptSource(BaseModel):
    """Concepts from a vocabulary, from a column of a file (.txt, .csv, .tsv, .jsonl, .parquet, .json), or from a list.

    `only` picks words, `groups` picks groups of a vocabulary, `limit` keeps the first ones, `distinct` drops repeats
    (they are an error otherwise), and `frame` makes a concept of each word: "{} person". A vocabulary may have its own.

    `whole` says that texts are whole prompts, such as captions: they are said as they are, in no template, and repeats
    are dropped unless `distinct` is false. A line of a captions file that begins with # is a caption, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: str | None = None
    file: str | None = None
    texts: Texts | None = Field(None, min_length=1)
    column: str | None = None
    groups: Texts | None = Field(None, min_length=1)
    only: Texts | None = Field(None, min_length=1)
    limit: Whole | None = Field(None, ge=1)
    distinct: Annotated[bool, Strict()] | None = None
    frame: str | None = None
    whole: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _one_origin(self) -> ConceptSource:
        if sum(origin is not None for origin in (self.vocabulary, self.file, self.texts)) != 1:
            raise ScalexError("`concepts` needs either `vocabulary` or `file`", "Name exactly one of the two")
        if not self.file and self.column:
            raise ScalexError("`concepts.column` belongs to `file`, and a vocabulary has no columns", "Remove it")
        if not self.vocabulary and self.groups:
            raise ScalexError("`concepts.groups` belongs to `vocabulary`, and a file has no groups", "Use `only`")
        if self.frame is not None:
            check_slot("concepts.frame", self.frame, "the word")
        return self


def _form_of_concepts(data: object) -> str | None:
    if isinstance(data, ConceptSource | Mapping):
        return "source"
    return "list" if isinstance(data, list | tuple) else None


def _form_of_analyses(data: object) -> str | None:
    if isinstance(data, str):
        return "all" if data == "all" else None
    return "list" if isinstance(data, list | tuple) else None


Concepts = Annotated[
    Annotated[Texts, Tag("list")] | Annotated[ConceptSource, Tag("source")],
    Discriminator(_form_of_concepts, custom_error_type="concepts", custom_error_message="unknown form"),
]
Analyses = Annotated[
    Annotated[Texts, Tag("list")] | Annotated[Literal["all"], Tag("all")],
    Discriminator(_form_of_analyses, custom_error_type="analyses", custom_error_message="unknown form"),
]


class AuditSpec(BaseModel):
    """What an audit asks. Frozen and strict: an unknown key is an error that names the nearest known one.

    Attributes:
        model: folder or hub id; None is the embedded organism. unet: another U-Net for it (a subfolder of the model, a
            folder or a hub id). lora: a LoRA on top. scheduler: a `diffusers` class in place of the model's.
        probe: the block that is read, of those that `scalex probe-sweep` lists; None is the middle one.
        steps: denoising steps, and guidance: its scale; None is what the model recommends.
        keep: the steps whose latents are kept: "first", "last", "all", numbers from 0, or a mapping of these by reading
            (see `Plan`). Analyses read the last one kept.
        moments: keep the mean and the variance of so many seeds at a time in place of single samples, for analyses that
            take no more (see `scalex.moments`); None to keep samples.
        seeds: how many, counted from `first_seed`: other seeds repeat an audit on other pictures.
        width: concepts that are undecided get more seeds, until their intervals are no wider than +- this, in units of
            leans and shares (see `scalex.sequential`); None for no more. budget: most seeds of a concept then; None is
            eight times as many as at first.
        reference: the neutral concept that descriptors are measured from; empty for the mean of all that is compared.
        identities: what descriptors are held against, beside the reference's own variants. words: the vocabulary that
            associations, clusters and names draw on. Both are lists, or where they come from; they are captured only
            for analyses that take them.
        size: pixels of a side; None is the model's own. precision: None is what suits the device.
        templates: frames around a concept. concepts: a list, or where they come from.
        attributes: by name, the patterns of their values by name. In YAML also a list of presets (`[gender, tone]`), or
            `preset` in place of the values; `{}` for none, where no analysis takes any.
        readings, analyses: which; pooling: "mean", "grid:G" or "full". level: timestep, of 1000, to which the picture
            reading noises. truncate: cut over-long texts instead of refusing them.
        confidence, margin, floor, resamples, permutations, analysis_seed, lean_direction: see `rules`.

    Raises:
        ScalexError: anything wrong, in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str | None = Field(None, min_length=1)
    unet: str | None = Field(None, min_length=1)
    lora: str | None = Field(None, min_length=1)
    scheduler: str | None = Field(None, min_length=1)
    probe: str | None = Field(None, min_length=1)
    steps: Whole | None = Field(None, ge=1, le=1000)
    guidance: Number | None = Field(None, ge=1)
    keep: Kept | dict[Reading, Kept] | None = None
    moments: Whole | None = Field(None, ge=2, le=1024)
    seeds: Whole = Field(32, ge=_LEAST_SEEDS, le=_MOST_SEEDS)  # fewer cannot carry an interval
    first_seed: Whole = Field(0, ge=0, le=2**62)
    width: Number | None = Field(None, gt=0, lt=0.5)
    budget: Whole | None = Field(None, ge=4, le=_MOST_SEEDS)
    size: Whole | None = Field(None, ge=8, le=8192, multiple_of=8)
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    templates: Texts = ("a photo of a {}", "a picture of a {}")
    concepts: Concepts
    attributes: dict[str, dict[str, ValuePattern]]
    reference: str = "person"
    identities: Concepts | None = None
    words: Concepts | None = None
    readings: tuple[Reading, ...] = READINGS
    analyses: Analyses = ("defaults", "rates", "disagreement", "sensitivity")
    pooling: str = "mean"
    level: Whole = Field(100, ge=1, le=999)
    truncate: Annotated[bool, Strict()] = False
    confidence: Number = Field(_RULES.level, gt=0.5, lt=1)
    margin: Number = Field(_RULES.margin, gt=0, lt=0.5)
    floor: Number = Field(_RULES.floor, ge=0.5, lt=1)
    resamples: Whole = Field(_RULES.resamples, ge=100, le=1_000_000)
    permutations: Whole = Field(_RULES.permutations, ge=99, le=1_000_000)
    analysis_seed: Whole = Field(_RULES.seed, ge=0)
    lean_direction: LeanDirection = _RULES.lean_direction

    @property
    def rules(self) -> Rules:
        """How the findings of this audit are judged."""
        judged = self.confidence, self.margin, self.floor, self.resamples, self.permutations, self.analysis_seed
        return Rules(*judged, self.lean_direction)

    @property
    def seed_range(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def most_seeds(self) -> int:
        """How many seeds a concept may get."""
        if self.width is None:
            return self.seeds
        return self.budget or min(8 * self.seeds, _MOST_SEEDS)

    @property
    def attribute_values(self) -> dict[str, Texts]:
        """The names of the values by attribute, in order: what the analyses take."""
        return {name: tuple(values) for name, values in self.attributes.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `load_spec` reads back to an equal spec, with every default written out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """The same as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120)

    @model_validator(mode="wrap")
    @classmethod
    def _say_in_one_line(cls, data: object, handler: ModelWrapValidatorHandler[AuditSpec]) -> AuditSpec:
        try:
            return handler(data)
        except ValidationError as error:
            known = {
                "": cls.model_fields,
                **dict.fromkeys(_SOURCES, ConceptSource.model_fields),
                "attributes": ValuePattern.model_fields,
            }
            raise explain(error, known) from None

    @model_validator(mode="after")
    def _check_budget(self) -> AuditSpec:
        if self.budget is not None and self.width is None:
            wrong = f"`budget` is {self.budget}, but there is no `width` to spend it on"
            raise ScalexError(wrong, "Set `width` (--precision), such as 0.05, or leave `budget` out")
        if self.most_seeds < self.seeds:
            wrong = f"`budget` is {self.budget}, but `seeds` is {self.seeds}"
            raise ScalexError(wrong, "Give it as many at least: it is the most seeds that a concept may get")
        return self

    @model_validator(mode="after")
    def _check_shared(self) -> AuditSpec:
        if self.lean_direction == "shared" and self.width is not None:
            wrong = "`lean_direction` is shared, but with `width` a concept may be left undecided without others"
            raise ScalexError(wrong, "Take `lean_direction: pooled`, or leave `width` (--precision) out")
        return self

    @model_validator(mode="after")
    def _check_moments(self) -> AuditSpec:
        if self.moments is None:
            return self
        if self.seeds % self.moments or self.first_seed % self.moments:
            wrong = f"`moments` is {self.moments}, but `seeds` is {self.seeds} and `first_seed` {self.first_seed}"
            raise ScalexError(wrong, f"Give both in multiples of {self.moments}: moments are kept by whole blocks")
        if self.seeds < _LEAST_SEEDS * self.moments:
            wrong = f"`moments` is {self.moments}, so that {self.seeds} seeds are {self.seeds // self.moments} blocks"
            way_out = f"An interval needs {_LEAST_SEEDS}: take {_LEAST_SEEDS * self.moments} seeds or smaller blocks"
            raise ScalexError(wrong, way_out)
        return self

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: Texts) -> Texts:
        for i, template in enumerate(templates):
            check_slot(f"templates[{i}]", template, "the concept")
        return check_distinct("templates", templates)

    @field_validator("concepts", "identities", "words")
    @classmethod
    def _check_concepts(cls, texts: Texts | ConceptSource | None, info: Any) -> Texts | ConceptSource | None:
        return check_concepts(texts, key=info.field_name) if isinstance(texts, tuple) else texts

    @field_validator("reference")
    @classmethod
    def _check_reference(cls, reference: str) -> str:
        return check_concepts((reference,), key="reference")[0] if reference.strip() else ""

    @field_validator("attributes", mode="before")
    @classmethod
    def _name_presets(cls, attributes: object) -> object:
        return _expand(attributes)

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, attributes: dict[str, dict[str, ValuePattern]]) -> dict[str, dict[str, ValuePattern]]:
        for name, values in attributes.items():  # a mapping that is empty says so: nothing but the concepts themselves
            _check_values(f"attributes.{name}", values)
        return attributes

    @field_validator("readings", "analyses")
    @classmethod
    def _check_names(cls, names: Texts | str, info: Any) -> Texts | str:
        return names if isinstance(names, str) else check_distinct(info.field_name, names)

    @field_validator("keep", mode="before")
    @classmethod
    def _check_keep(cls, keep: object) -> object:
        by_reading = keep if isinstance(keep, Mapping) and set(keep) <= set(READINGS) else {"": keep}
        if "moments" in by_reading.values():
            raise ScalexError("`keep` says which steps are kept", "For moments write `moments: 8` beside it")
        if keep is not None and not all(map(_names_steps, by_reading.values())):
            wrong = f"`keep` is {keep!r}, but should be first, last, all, numbers from 0, or these by reading"
            raise ScalexError(wrong, f"Readings: {', '.join(READINGS)}")
        return keep

    @field_validator("pooling")
    @classmethod
    def _check_pooling(cls, pooling: str) -> str:
        if not re.fullmatch(r"mean|full|grid:[1-9]\d*", pooling):
            raise ScalexError(f"`pooling` is {pooling!r}, but must be mean, full or grid:G with a whole number G")
        return pooling


def _names_steps(kept: object) -> bool:
    steps = kept if isinstance(kept, list | tuple) else [kept]
    return all(isinstance(step, str | int) and not isinstance(step, bool) for step in steps)


def _expand(attributes: object) -> object:
    """Presets that are named become their values; what is wrong in other ways is left to the checks that follow."""
    if isinstance(attributes, list | tuple):
        return _expand_list(attributes)
    if not isinstance(attributes, Mapping):
        return attributes
    check_keys("attributes", attributes)
    for name, values in attributes.items():
        if isinstance(values, Mapping):
            check_keys(f"attributes.{name}", values)
    return {name: preset(name) if values == "preset" else values for name, values in attributes.items()}


def _expand_list(entries: Sequence[object]) -> dict[str, Any]:
    for i, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise ScalexError(
                f"`attributes[{i}]` is {entry!r}, but a list holds names of presets",
                "Write a mapping, as in `attributes: {gender: preset, hat: {...}}`",
            )
    return {name: preset(name) for name in check_distinct("attributes", tuple(map(str, entries)))}


def _check_values(key: str, values: Mapping[str, ValuePattern]) -> None:
    if len(values) < 2:
        raise ScalexError(f"`{key}` has {len(values)} value, but a comparison needs two or more", "Add a value")
    for value, pattern in values.items():
        check_slot(f"{key}.{value}", pattern.pattern, "the concept")
        if pattern.also is not None:
            check_slot(f"{key}.{value}.also", pattern.also, "the concept")
        if tidy(pattern.pattern) == SLOT:
            raise ScalexError(f"`{key}.{value}` says the same as the concept itself", "Say the value in the pattern")
    said = [(p.pattern, p.person) for p in values.values()]
    for i, value in enumerate(values):
        if said[i] in said[:i]:
            raise ScalexError(f"`{key}.{value}` says the same as another value", "Give each value its own wording")


def load_spec(
    source: AuditSpec | Path | str | Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> AuditSpec:
    """A spec from a YAML file, from a mapping of the same keys, or with None the default one.

    `overrides` replace keys of the source before anything is checked. The path of a concept file is relative to the
    spec's own file.

    Raises:
        ScalexError: anything wrong: which file, which key, what, and the way out.
    """
    if isinstance(source, Path | str):
        return _load_file(Path(source), overrides or {})
    if isinstance(source, AuditSpec):
        source = source.to_dict()
    return AuditSpec.model_validate({**(_DEFAULT if source is None else source), **(overrides or {})})


def _load_file(path: Path, overrides: Mapping[str, Any]) -> AuditSpec:
    text = read_text(path, "the spec")
    try:
        spec = AuditSpec.model_validate(parse_yaml(text) | dict(overrides))
    except ScalexError as error:
        overridden = any(f"`{key}" in error.wrong for key in overrides)
        raise ScalexError(error.wrong if overridden else f"{path}: {error.wrong}", error.way_out) from None
    sources = {key: getattr(spec, key) for key in _SOURCES if key not in overrides}
    located = {
        key: source.model_copy(update={"file": str(path.parent / source.file)})
        for key, source in sources.items()
        if isinstance(source, ConceptSource) and source.file
    }
    return spec.model_copy(update=located)
