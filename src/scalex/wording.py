"""English around a slot: patterns with `{}`, the article that agrees with what fills it, and the nearest known name."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

__all__ = ["SLOT", "article", "did_you_mean", "doubles_article", "file_name", "fill", "meant", "put_for_noun", "tidy"]

SLOT = "{}"

# Where spelling and sound part. Stems, lower-case and without accents, matched from the start of the word.
_SILENT_H = re.compile(r"heir|honest|honor|honour|hour(?!i)|hors$")
_SOUNDS_YOU = re.compile(
    r"eu|ew[er]|ubiq|ufo|ugand|uk|ulyss|unani|unary|unesco|uni(?!deal|dent|ll|mag|mm|mp|n|r|ss)|ur[aeiou]|us[aeiou]"
    r"|ut[aeiou]|uvul|uyg|uig"
)
_SOUNDS_W = re.compile(r"once|one(?![ir])|oaxac|ouaga|ouija")
_Y_AS_VOWEL = re.compile(r"y[bdglmptvw]")
_LETTERS_SAID_WITH_VOWEL = frozenset("AEFHILMNORSX")  # "ef", "aitch", "ex"
_SAID_AS_WORDS = re.compile(
    "FEMA|FIFA|FOMO|HUD|LAN|LASIK|LEGO|MIDI|NASA|NATO|NICU|NIMBY|RADAR|RAM|REM|ROM|SARS|SIM|SOHO|SWAT"
)
_SPELLED_THOUGH_LONG = frozenset({"LGBTQIA", "NAACP", "UNHCR"})

_HEAD = re.compile(r"\d[\d,]*|[^\W\d_][^\W_]*")
_ARTICLE = re.compile(r"(?<![\w'’-])([Aa]n?)(\s+[\"'“‘«(\[]*)$")
_LEADING_ARTICLE = re.compile(r"(?:an?|the)\s(?!cappella)")
_ELEVEN_OR_EIGHTEEN = re.compile(r"1[18](,\d{3})*|1[18]\d\d|1[18]\d{3}")


def article(phrase: str) -> Literal["a", "an"] | None:
    """The indefinite article of a phrase by the sound of its first word; None where that word is not English letters.

    Rules and exceptions were written for scalex. Usage is American, except that the h of "herb" is heard.
    """
    match = _HEAD.search(unicodedata.normalize("NFC", phrase))
    if match is None:
        return None
    head = match.group()
    if head[0].isdecimal():
        return _an(head[0] == "8" or _ELEVEN_OR_EIGHTEEN.fullmatch(head.rstrip(",")) is not None)
    if _is_spelled_out(head):
        return _an(head[0] in _LETTERS_SAID_WITH_VOWEL)
    return _article_of_word(head)


def _an(vowel: bool) -> Literal["a", "an"]:
    return "an" if vowel else "a"


def _is_spelled_out(head: str) -> bool:
    """Whether the capitals that a word starts with are said one by one: MRI, MSc, F16 and X are, NASA and NURSE not."""
    capitals = head[: len(head) - len(head.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
    if len(capitals) < 2:
        return bool(capitals) and not head[1:2].isalpha()
    if _SAID_AS_WORDS.fullmatch(capitals):
        return False
    return len(capitals) <= 4 or capitals in _SPELLED_THOUGH_LONG or not re.search("[AEIOU]", capitals[:3])


def _article_of_word(word: str) -> Literal["a", "an"] | None:
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(c))
    plain = plain.replace("æ", "ae").replace("œ", "oe").replace("ø", "o")
    if not "a" <= plain[0] <= "z":
        return None
    if len(plain) == 1:
        return _an(plain.upper() in _LETTERS_SAID_WITH_VOWEL)
    if _SILENT_H.match(plain) or _Y_AS_VOWEL.match(plain):
        return "an"
    return _an(plain[0] in "aeiou" and not _SOUNDS_YOU.match(plain) and not _SOUNDS_W.match(plain))


def fill(pattern: str, words: str) -> str:
    """A pattern with its slot filled; an "a" or "an" right before the slot agrees with what now follows it."""
    before, _, after = pattern.partition(SLOT)
    return _join(before, words, after)


def put_for_noun(phrase: str, noun: str, by: str) -> str | None:
    """A phrase with the first `noun`, as a word of its own, replaced; None where the phrase does not hold it.

    "a bossy person" with "man" for "person" is "a bossy man"; "salesperson" does not hold the word.
    """
    match = re.search(rf"(?<![\w-]){re.escape(noun)}(?![\w-])", phrase)
    return _join(phrase[: match.start()], by, phrase[match.end() :]) if match else None


def _join(before: str, words: str, after: str) -> str:
    agreed = article(words + re.split(r"\s", after, maxsplit=1)[0])
    match = _ARTICLE.search(before)
    if match and agreed:
        written = agreed.capitalize() if match.group(1)[0] == "A" else agreed
        before = before[: match.start()] + written + match.group(2)
    return before + words + after


def doubles_article(pattern: str, words: str) -> bool:
    """Whether the pattern's article would stand before an article that the words bring: "a {}" with "the moon"."""
    return bool(_ARTICLE.search(pattern.partition(SLOT)[0]) and _LEADING_ARTICLE.match(words))


def tidy(text: str) -> str:
    """The text with every run of white space, line breaks included, as one space, and none at the ends."""
    return " ".join(text.split())


def file_name(text: str) -> str:
    """A name for a file that people can type: "gender of pilot: man to woman" gives "gender-of-pilot-man-to-woman"."""
    return re.sub(r"[^\w]+", "-", text.casefold()).strip("-")[:100] or "unnamed"


def did_you_mean(name: str, known: Iterable[str], what: str = "Known") -> str:
    """The way out of a wrong name: the nearest known one, or where none is near the first dozen of them."""
    names = sorted(set(known))
    if near := meant(name, names):
        return near
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{what}: {', '.join(names[:12])}{rest}"


def meant(name: str, known: Iterable[str]) -> str:
    """The way out of a wrong name, where a known one is near; else empty."""
    folded = {n.casefold(): n for n in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[near[0]]!r}?" if near else ""
