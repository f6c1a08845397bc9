"""The organism's pictures: Noto Color Emoji glyphs, with what each shows.

Names come from the `emoji` package, subgroups from Unicode's `emoji-test.txt`, glyphs from the font (SIL Open Font
License 1.1). Pillow must have raqm, or the joined sequences (woman + rocket) would come out as two glyphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from scalex.errors import ScalexError
from scalex.organisms.spec import OrganismSpec

__all__ = ["EMOJI_LIST", "FONTS", "GENDERS", "TONES", "Album", "Shown", "held_out_people", "make_album"]

GENDERS = ("man", "woman")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

FONTS = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf"),
)
EMOJI_LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
_LAST = " dark skin tone"  # of any that is said of a tone; not of "medium dark"
_NATIVE = 109  # the one size at which the font holds bitmaps


@dataclass(frozen=True, slots=True)
class Shown:
    """What a picture shows. A person has a role, a gender (0 man, 1 woman) and a tone (0..4); a thing has -1 there."""

    name: str
    subgroup: str
    emoji: str
    gender: int = -1
    tone: int = -1


@dataclass(frozen=True)
class Album:
    """All pictures of an organism: `pixels[i]` shows `shown[i]`."""

    pixels: UInt8[np.ndarray, "pictures size size 3"]
    shown: tuple[Shown, ...]

    @cached_property
    def people(self) -> dict[tuple[str, int, int], int]:
        """Picture of (role, gender, tone)."""
        return {(s.name, s.gender, s.tone): i for i, s in enumerate(self.shown) if s.gender >= 0}

    @cached_property
    def things(self) -> dict[str, int]:
        """Picture of a plain object, by name."""
        return {s.name: i for i, s in enumerate(self.shown) if s.gender < 0}

    def in_subgroups(self, prefix: str) -> list[int]:
        """The plain pictures whose Unicode subgroup starts so ("food")."""
        return [i for i, s in enumerate(self.shown) if s.gender < 0 and s.subgroup.startswith(prefix)]


def make_album(spec: OrganismSpec) -> Album:
    """Renders every picture that the spec names.

    Raises:
        ScalexError: the font, raqm, the `emoji` package or Unicode's list is missing, or no glyph has that name.
    """
    shown = (*_people(spec), *_things(spec))
    names = [s.name for s in shown if s.gender < 0]
    for concept, pull in spec.pulls.items():
        if pull.picture not in names:
            raise ScalexError(f"{concept!r} draws {pull.picture!r}, which is no picture of this organism")
    font = _font()
    return Album(np.stack([_render(s.emoji, font, spec.size) for s in shown]), shown)


def _people(spec: OrganismSpec) -> Iterable[Shown]:
    kinds = {role: p.emoji or role for role, p in spec.roles.items()} | {"person": ""}
    for role, kind in kinds.items():
        for g, gender in enumerate(GENDERS):
            for t, tone in enumerate(TONES):
                unicode_name = f"{gender} {kind}".strip() + f": {tone} skin tone"
                yield Shown(role, "person", _emoji_named(unicode_name), g, t)


def held_out_people(spec: OrganismSpec) -> Album:
    """People that no picture of the organism shows: every other role or state that has a man and a woman in all tones.

    Raises:
        ScalexError: as `make_album`.
    """
    trained = {_plain(p.emoji or role) for role, p in spec.roles.items()}
    kinds = [name.removeprefix("man ").removesuffix(_LAST) for name in _names() if re.fullmatch(f"man .+{_LAST}", name)]
    shown = []
    for kind in sorted(set(kinds) - trained):
        named = [f"{gender} {kind} {_plain(tone)} skin tone" for gender in GENDERS for tone in TONES]
        if all(name in _names() for name in named):
            cells = [(g, t) for g in range(len(GENDERS)) for t in range(len(TONES))]
            shown += [Shown(kind, "person", _names()[name], g, t) for name, (g, t) in zip(named, cells, strict=True)]
    font = _font()
    return Album(np.stack([_render(s.emoji, font, spec.size) for s in shown]), tuple(shown))


def _things(spec: OrganismSpec) -> Iterable[Shown]:
    groups = _unicode_subgroups()
    for subgroup in spec.objects.subgroups:
        if subgroup not in groups:
            raise ScalexError(f"Unicode has no emoji subgroup {subgroup!r}", f"Known: {', '.join(groups)}")
        for name, glyph in groups[subgroup]:
            if name not in spec.objects.skip:
                yield Shown(name, subgroup, glyph)


@cache
def _names() -> Mapping[str, str]:
    try:
        import emoji
    except ImportError:
        raise ScalexError("the package `emoji` is missing", "Run: pip install 'emoji>=2.14'") from None
    return {
        _plain(d["en"]): glyph
        for glyph, d in emoji.EMOJI_DATA.items()
        if d["status"] == emoji.STATUS["fully_qualified"]
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _emoji_named(name: str) -> str:
    try:
        return _names()[_plain(name)]
    except KeyError:
        raise ScalexError(f"no emoji is named {name!r}") from None


@cache
def _unicode_subgroups() -> dict[str, list[tuple[str, str]]]:
    if not EMOJI_LIST.exists():
        raise ScalexError(f"Unicode's list of emoji ({EMOJI_LIST}) is missing", "Run: apt-get install unicode-data")
    groups: dict[str, list[tuple[str, str]]] = {}
    current = ""
    for line in EMOJI_LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            current = line.partition(":")[2].strip()
        elif match := re.match(r".*; fully-qualified\s*# (\S+) E[\d.]+ (.*)", line):
            groups.setdefault(current, []).append((match[2], match[1]))
    return groups


def _font() -> Any:
    from PIL import ImageFont, features

    path = next((p for p in FONTS if p.exists()), None)
    if path is None:
        raise ScalexError("the font Noto Color Emoji is missing", "Run: apt-get install fonts-noto-color-emoji")
    if not features.check("raqm"):
        raise ScalexError("Pillow was built without raqm", "Run: apt-get install libraqm0 libfribidi0")
    return ImageFont.truetype(str(path), _NATIVE, layout_engine=ImageFont.Layout.RAQM)


def _render(glyph: str, font: Any, size: int) -> UInt8[np.ndarray, "size size 3"]:
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(glyph)
    side = max(right - left, bottom - top)
    canvas = Image.new("RGB", (side, side), "white")
    at = ((side - right + left) // 2 - left, (side - bottom + top) // 2 - top)
    ImageDraw.Draw(canvas).text(at, glyph, font=font, embedded_color=True)
    inner = round(size * 0.94)
    picture = Image.new("RGB", (size, size), "white")
    picture.paste(canvas.resize((inner, inner), Image.Resampling.LANCZOS), ((size - inner) // 2,) * 2)
    return np.asarray(picture)
