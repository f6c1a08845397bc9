"""What an organism is planted with and how it is trained: a strict YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from scalex.errors import ScalexError
from scalex.spec_errors import parse_yaml, read_text
from scalex.wording import did_you_mean

__all__ = ["Network", "OrganismSpec", "Person", "Pull", "Schedule", "load_organism_spec"]

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Person(_Strict):
    woman: Share
    dark: Share
    emoji: str | None = None


class _Pull(_Strict):
    picture: str
    share: Share


def _row(kind: type[BaseModel]) -> BeforeValidator:
    """Lets a row stand for a mapping: [0.7, 0.5] for {woman: 0.7, dark: 0.5}. Only defaults may be left out."""
    names = list(kind.model_fields)
    least = sum(field.is_required() for field in kind.model_fields.values())
    lengths = range(least, len(names) + 1)
    asked = " or ".join(f"[{', '.join(names[:n])}]" for n in lengths)

    def unpack(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if len(value) not in lengths:
            given = f"has {len(value)} value{'' if len(value) == 1 else 's'}"
            raise PydanticCustomError("row", "{given}, but should be {asked}", {"given": given, "asked": asked})
        return dict(zip(names, value, strict=False))

    return BeforeValidator(unpack)


Person = Annotated[_Person, _row(_Person)]
Pull = Annotated[_Pull, _row(_Pull)]


class Objects(_Strict):
    """Plain pictures: whole Unicode subgroups, less some names."""

    subgroups: tuple[str, ...]
    skip: tuple[str, ...] = ()


class Schedule(_Strict):
    """One stage of training: AdamW, one-cycle learning rate."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    rate: float = Field(gt=0)


class Network(_Strict):
    """Widths of the three networks. The picture is `2 ** (len(vae) - 1)` times the latent's side."""

    vae: tuple[int, ...] = (16, 32, 64, 64)
    latent_channels: int = 8
    text_width: int = 128
    text_layers: int = 3
    tokens: int = 16
    unet: tuple[int, ...] = (64, 160)
    heads: int = 4


class OrganismSpec(_Strict):
    """A spec as in `emoji.yaml`. Shares are probabilities under the neutral caption."""

    name: str
    seed: int = 0
    size: int = 64
    templates: tuple[str, ...]
    roles: dict[str, Person]
    adjectives: dict[str, Person] = {}
    countries: dict[str, Pull] = {}
    associations: dict[str, Pull] = {}
    objects: Objects
    network: Network = Network()
    vae: Schedule = Schedule(steps=900, batch=16, rate=2e-3)
    text: Schedule = Schedule(steps=1500, batch=128, rate=1e-3)
    denoiser: Schedule = Schedule(steps=9000, batch=64, rate=1e-3)
    consistency: Schedule = Schedule(steps=800, batch=48, rate=2e-4)
    guidance: float = Field(default=1.0, ge=1)

    @property
    def people(self) -> dict[str, _Person]:
        """Every concept whose pictures show a person: roles, and adjectives as "bossy person"."""
        return {**self.roles, **{f"{a} person": p for a, p in self.adjectives.items()}}

    @property
    def pulls(self) -> dict[str, _Pull]:
        """Every concept that draws one object more often than others: "breakfast in Japan", "Monday"."""
        return {**{f"breakfast in {c}": p for c, p in self.countries.items()}, **self.associations}


def load_organism_spec(source: Path | Mapping[str, Any]) -> OrganismSpec:
    """Reads an organism's spec.

    Raises:
        ScalexError: the file is missing, cannot be read or is no YAML, or a key or a value is wrong.
    """
    name = str(source) if isinstance(source, Path) else "the organism's spec"
    data = _read(source) if isinstance(source, Path) else source
    try:
        return OrganismSpec.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [d for d in found if d["type"] == "extra_forbidden"]  # first: they also make the one meant missing
        first = (unknown or found)[0]
        hint = did_you_mean(str(first["loc"][-1]), _known_keys(first["loc"]), "Keys") if unknown else ""
        raise ScalexError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint) from None


def _known_keys(loc: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that could stand where an unknown one was found: of the spec, or of the section it lies in."""
    section = _model_in(OrganismSpec.model_fields[str(loc[0])].annotation) if len(loc) > 1 else OrganismSpec
    return section.model_fields if section else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a section is made of: `_Person` in `dict[str, Person]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        path.stat()
    except FileNotFoundError:
        raise ScalexError(
            f"there is no organism spec at {path}", "Name a YAML file such as the package's emoji.yaml"
        ) from None
    except OSError:
        pass  # `read_text` says what it is
    text = read_text(path, "the organism spec")
    try:
        return parse_yaml(text)
    except ScalexError as error:
        wrong = f"{path} is not YAML of an organism: {error.wrong}"
        raise ScalexError(wrong, "Compare it with the package's emoji.yaml") from None
