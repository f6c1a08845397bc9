"""The vocabularies and presets that ship, and the contract that every one of them keeps."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from scalex import vocabularies
from scalex.errors import ScalexError
from scalex.prompts import load_spec
from scalex.wording import article, fill

LEAST = {
    "adjectives": 400,
    "countries": 193,
    "emotions": 150,
    "foods": 300,
    "identities": 500,
    "nationalities": 193,
    "objects": 500,
    "places": 250,
    "professions": 500,
}
CONTINENTS = {"Africa", "Americas", "Asia", "Europe", "Oceania"}
OF_A_PERSON = {"adjectives", "emotions", "nationalities"}
PROPER = re.compile(r"[A-Z]")
# First words before which the sound, not the letter, decides between "a" and "an"; each was looked at.
A_BEFORE_VOWEL_LETTER = """
European UN USB UX Uganda Ugandan Ukraine Ukrainian Unitarian Uruguay Uruguayan Uyghur eucalyptus euphonium euphoric ewe
one ukulele unicorn unicycle uniform union university urologist used utensil utility
"""
AN_BEFORE_CONSONANT_LETTER = "LED LGBTQ MMA MP3 MRI SUV X heirloom honest hors hourglass"


@pytest.fixture
def reference() -> Path:
    """The folder of public reference tables, which are not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "reference"
    folder = Path(os.environ.get("SCALEX_REFERENCE", beside))
    if not folder.is_dir():
        pytest.skip("no reference tables: set SCALEX_REFERENCE to their folder")
    return folder


def test_built_in_names() -> None:
    assert vocabularies.available() == tuple(sorted(LEAST))
    assert vocabularies.presets() == ("age", "gender", "tone")


@pytest.mark.parametrize("name", vocabularies.available())
class TestEveryVocabulary:
    """The contract of a vocabulary file."""

    def test_it_is_large_enough(self, name: str) -> None:
        assert len(vocabularies.load(name)) >= LEAST[name]

    def test_words_are_tidy_and_unlike(self, name: str) -> None:
        words = vocabularies.load(name)
        assert all(w and w == " ".join(w.split()) and "{" not in w for w in words)
        assert len({_letters(w) for w in words}) == len(words)

    def test_words_bring_no_indefinite_article(self, name: str) -> None:
        assert not [w for w in vocabularies.load(name) if re.match(r"an? ", w, re.IGNORECASE)]

    def test_every_word_has_an_article_to_take(self, name: str) -> None:
        assert all(article(w) for w in vocabularies.load(name))

    def test_header_is_complete(self, name: str) -> None:
        vocabulary = vocabularies.load_vocabulary(name)
        assert vocabulary.description.endswith(".")
        assert vocabulary.source == "written by the scalex authors"
        assert vocabulary.licence == "Apache-2.0"
        assert vocabulary.frame.count("{}") == 1
        assert all(vocabulary.groups.values())

    def test_file_is_compact(self, name: str) -> None:
        text = (files(vocabularies) / f"{name}.yaml").read_text(encoding="utf-8")
        assert max(len(line) for line in text.splitlines()) <= 120
        assert len(text.splitlines()) <= len(vocabularies.load(name)) / 3

    def test_it_makes_a_spec(self, name: str) -> None:
        spec = load_spec({"concepts": {"vocabulary": name}, "attributes": ["gender", "tone", "age"]})
        assert spec.attribute_values["gender"] == ("man", "woman")


def _letters(word: str) -> str:
    """What two spellings of one word share: "Jump-rope" and "jump rope"."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", word).casefold())


def test_spelling_and_sound_part_only_in_words_that_were_looked_at() -> None:
    words = {w for name in LEAST for w in vocabularies.load(name)}
    vowel = {w for w in words if unicodedata.normalize("NFKD", w)[0] in "aeiouAEIOU"}
    heads = {agreed: set[str]() for agreed in ("a", "an")}
    for word in words:
        agreed = article(word)
        if agreed and (agreed == "an") != (word in vowel):
            heads[agreed].add(re.split(r"[ '-]", word)[0])
    assert heads == {"a": set(A_BEFORE_VOWEL_LETTER.split()), "an": set(AN_BEFORE_CONSONANT_LETTER.split())}


@pytest.mark.parametrize(
    ("name", "word", "expected"),
    [
        ("objects", "hourglass", "a photo of an hourglass"),
        ("objects", "unicycle", "a photo of a unicycle"),
        ("objects", "umbrella", "a photo of an umbrella"),
        ("identities", "European person", "a photo of a European person"),
        ("identities", "LGBTQ person", "a photo of an LGBTQ person"),
        ("nationalities", "Uzbek", "a photo of an Uzbek person"),
        ("nationalities", "I-Kiribati", "a photo of an I-Kiribati person"),
        ("nationalities", "Uruguayan", "a photo of a Uruguayan person"),
        ("countries", "the Netherlands", "a photo of a person from the Netherlands"),
        ("emotions", "euphoric", "a photo of a euphoric person"),
        ("emotions", "uneasy", "a photo of an uneasy person"),
        ("adjectives", "honest", "a photo of an honest person"),
        ("foods", "heirloom tomato", "a photo of an heirloom tomato"),
        ("foods", "éclair", "a photo of an éclair"),
        ("places", "university campus", "a photo of a university campus"),
        ("professions", "MRI technician", "a photo of an MRI technician"),
        ("professions", "urologist", "a photo of a urologist"),
    ],
)
def test_prompts_read_right(name: str, word: str, expected: str) -> None:
    vocabulary = vocabularies.load_vocabulary(name)
    assert word in vocabulary.words
    assert fill("a photo of a {}", fill(vocabulary.frame, word)) == expected


def test_common_nouns_are_lower_case() -> None:
    plain = ["professions", "adjectives", "emotions", "objects", "places"]
    capital = {w for name in plain for w in vocabularies.load(name) if PROPER.search(w)}
    proper = {"Buddhist temple", "Christmas tree", "English teacher", "French horn", "Hindu temple"}
    assert {w for w in capital - proper if not re.search(r"\b[A-Z0-9]{2,}\b|^[TX]-", w)} == set()
    assert proper < capital


def test_limit_keeps_common_professions_of_all_fields() -> None:
    professions = vocabularies.load_vocabulary("professions")
    first = professions.words[:40]
    assert set(first) == set(professions.first)
    assert {"nurse", "engineer", "teacher", "chief executive", "police officer"} <= set(first[:10])


def test_objects_and_foods_are_five_hundred() -> None:
    foods = set(vocabularies.load("foods"))
    assert len(foods | set(vocabularies.load("objects"))) >= 500
    assert set(vocabularies.load_vocabulary("objects").groups["food and drink"]) <= foods


def test_countries_are_proper_names() -> None:
    countries = vocabularies.load_vocabulary("countries")
    assert all(PROPER.match(w.removeprefix("the ")) for w in countries.words)
    members = [w for group, words in countries.groups.items() if group in CONTINENTS for w in words]
    assert len(members) == 193


def test_every_country_has_its_nationality() -> None:
    """One each in every group, but for two pairs that share theirs (Congolese, Dominican) and one state without."""
    countries, nationalities = (vocabularies.load_vocabulary(n).groups for n in ("countries", "nationalities"))
    assert list(countries) == list(nationalities)
    fewer = {g: len(countries[g]) - len(nationalities[g]) for g in countries}
    assert {g: n for g, n in fewer.items() if n} == {"Africa": 1, "Americas": 1, "observers and others": 1}
    assert all(PROPER.match(w) for words in nationalities.values() for w in words)


def test_identities_name_nationalities_alike() -> None:
    named = {w.removesuffix(" person") for w in vocabularies.load_vocabulary("identities").groups["nationality"]}
    assert named - set(vocabularies.load("nationalities")) == {"Korean"}


def test_person_vocabularies_take_the_noun_of_a_person() -> None:
    frames = {name: vocabularies.load_vocabulary(name).frame for name in LEAST}
    assert {name for name, frame in frames.items() if frame == "{} person"} == OF_A_PERSON
    assert frames["countries"] == "person from {}"
    assert {frame for name, frame in frames.items() if name not in OF_A_PERSON | {"countries"}} == {"{}"}


@pytest.mark.parametrize("name", vocabularies.presets())
def test_every_preset_has_values(name: str) -> None:
    assert len(vocabularies.preset(name)) >= 2


def test_unknown_names_say_the_nearest() -> None:
    with pytest.raises(ScalexError) as caught:
        vocabularies.load("profesion")
    assert str(caught.value) == (
        "there is no vocabulary 'profesion'. Did you mean 'professions'? "
        "Vocabularies: adjectives, countries, emotions, foods, identities, nationalities, objects, places, professions"
    )
    with pytest.raises(ScalexError, match=r"no attribute preset 'zzz'. Presets: age, gender, tone$"):
        vocabularies.preset("zzz")


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of another author, installed, with an entry point and an empty folder for its data."""
    package = tmp_path / "their_words"
    (package / "attributes").mkdir(parents=True)
    (package / "__init__.py").touch()
    info = tmp_path / "their_words-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-words\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{vocabularies.ENTRY_POINTS}]\ntheirs = their_words\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    sys.modules.pop("their_words", None)  # so that the next test finds its own


HEADER = "description: Theirs.\nsource: theirs\nlicence: MIT\n"


def test_another_package_adds_with_one_file(third_party: Path) -> None:
    (third_party / "birds.yaml").write_text(HEADER + "words: [robin, owl]\n")
    (third_party / "attributes" / "mood.yaml").write_text(HEADER + "values: {sad: 'sad {}', glad: 'glad {}'}\n")
    assert "birds" in vocabularies.available()
    assert vocabularies.load("birds") == ("robin", "owl")
    assert vocabularies.preset("mood") == {"sad": "sad {}", "glad": "glad {}"}


def test_another_package_cannot_change_ours(third_party: Path) -> None:
    (third_party / "countries.yaml").write_text(HEADER + "words: [Utopia]\n")
    assert "Utopia" not in vocabularies.load("countries")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "words: [no, yes]\n", "birds.yaml holds False, which YAML does not read as text. Put it in quotes"),
        (HEADER + "words: [owl, owl]\n", "birds.yaml holds more than once: owl. Remove the repeats"),
        (HEADER, "birds.yaml lacks words. Complete it as `scalex.vocabularies` describes"),
        (
            "[owl]",
            "birds.yaml lacks description, source, licence, words. Complete it as `scalex.vocabularies` describes",
        ),
    ],
)
def test_a_broken_vocabulary_says_so(third_party: Path, content: str, message: str) -> None:
    (third_party / "birds.yaml").write_text(content)
    with pytest.raises(ScalexError) as caught:
        vocabularies.load("birds")
    assert str(caught.value) == message


def test_professions_cover_labour_statistics(reference: Path) -> None:
    with (reference / "bls_occupations.tsv").open() as file:
        theirs = [row["occupation"] for row in csv.DictReader(file, delimiter="\t")]
    missing = set(theirs) - set(vocabularies.load("professions"))
    assert len(missing) <= 0.05 * len(theirs), sorted(missing)


def test_professions_cover_dalleval(reference: Path) -> None:
    prompts = json.loads((reference / "dalleval_prompts.json").read_text())
    theirs = {m[1] for p in prompts if (m := re.match(r"A person who works as an? (.+)", p))}
    missing = theirs - set(vocabularies.load("professions"))
    assert len(missing) <= 0.05 * len(theirs), sorted(missing)


def _descriptors(reference: Path, *preferences: str) -> set[str]:
    axes = json.loads((reference / "holisticbias_descriptors.json").read_text())
    entries = [e for groups in axes.values() for group in groups.values() for e in group if isinstance(e, dict)]
    return {e["descriptor"].casefold() for e in entries if e.get("preference") in preferences}


@pytest.mark.parametrize("name", LEAST)
def test_dispreferred_words_are_avoided(reference: Path, name: str) -> None:
    avoided = _descriptors(reference, "dispreferred", "polarizing")
    assert len(avoided) > 30
    words = [w.casefold() for w in vocabularies.load(name)]
    assert not [w for w in words if w in avoided or w.removesuffix(" person") in avoided]


def test_people_cover_reviewed_descriptors(reference: Path) -> None:
    """As words of their own, where "black-haired" is covered by "person with black hair"."""
    named = ("identities", "nationalities")
    held = " | ".join(w for name in named for w in vocabularies.load(name)).casefold().replace("-", " ")
    theirs = _descriptors(reference, "reviewed")
    plain = {t: re.sub(r"[ -](hair|skin)n?ed$", r" \1", t).replace("-", " ") for t in theirs}
    missing = {t for t, words in plain.items() if not re.search(rf"\b{re.escape(words)}\b", held)}
    assert len(missing) <= 0.2 * len(theirs), sorted(missing)
