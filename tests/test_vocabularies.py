"""The vocabularies and presets that ship, and the contract that every one of them keeps."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalex import vocabularies
from scalex.errors import ScalexError
from scalex.prompts import load_spec
from scalex.wording import article

LEAST = {"professions": 150, "adjectives": 100, "identities": 150, "objects": 150, "countries": 193}
PROPER = re.compile(r"[A-Z]")


@pytest.fixture
def reference() -> Path:
    """The folder of public reference tables, which are not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "reference"
    folder = Path(os.environ.get("SCALEX_REFERENCE", beside))
    if not folder.is_dir():
        pytest.skip("no reference tables: set SCALEX_REFERENCE to their folder")
    return folder


def test_built_in_names() -> None:
    assert vocabularies.available() == ("adjectives", "countries", "identities", "objects", "professions")
    assert vocabularies.presets() == ("age", "gender", "tone")


@pytest.mark.parametrize("name", vocabularies.available())
class TestEveryVocabulary:
    """The contract of a vocabulary file."""

    def test_it_is_large_enough(self, name: str) -> None:
        assert len(vocabularies.load(name)) >= LEAST[name]

    def test_words_are_tidy_and_unlike(self, name: str) -> None:
        words = vocabularies.load(name)
        assert all(w and w == " ".join(w.split()) and "{" not in w for w in words)
        assert len({w.casefold() for w in words}) == len(words)

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

    def test_it_makes_a_spec(self, name: str) -> None:
        spec = load_spec({"concepts": {"vocabulary": name}, "attributes": ["gender", "tone", "age"]})
        assert spec.attribute_values["gender"] == ("man", "woman")


def test_common_nouns_are_lower_case() -> None:
    plain = ["professions", "adjectives", "objects"]
    capital = {w for name in plain for w in vocabularies.load(name) if PROPER.search(w)}
    assert capital == {"DJ", "TV presenter", "IT specialist", "UX designer", "T-shirt", "X-ray"}


def test_countries_are_proper_names() -> None:
    assert all(PROPER.match(w.removeprefix("the ")) for w in vocabularies.load("countries"))
    assert len(vocabularies.load("countries")) == 193


def test_person_vocabularies_take_the_noun_of_a_person() -> None:
    frames = {name: vocabularies.load_vocabulary(name).frame for name in vocabularies.available()}
    assert frames["adjectives"] == "{} person"
    assert frames["countries"] == "person from {}"
    assert frames["professions"] == frames["objects"] == frames["identities"] == "{}"


@pytest.mark.parametrize("name", vocabularies.presets())
def test_every_preset_has_values(name: str) -> None:
    assert len(vocabularies.preset(name)) >= 2


def test_unknown_names_say_the_nearest() -> None:
    with pytest.raises(ScalexError) as caught:
        vocabularies.load("profesion")
    assert str(caught.value) == (
        "there is no vocabulary 'profesion'. Did you mean 'professions'? "
        "Vocabularies: adjectives, countries, identities, objects, professions"
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
    assert len(vocabularies.load("countries")) == 193


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


def test_identities_avoid_dispreferred_words(reference: Path) -> None:
    axes = json.loads((reference / "holisticbias_descriptors.json").read_text())
    entries = [e for groups in axes.values() for group in groups.values() for e in group if isinstance(e, dict)]
    avoided = {e["descriptor"].casefold() for e in entries if e.get("preference") in {"dispreferred", "polarizing"}}
    assert len(avoided) > 30
    words = [w.casefold() for w in vocabularies.load("identities")]
    assert not [w for w in words if w in avoided or w.removesuffix(" person") in avoided]
