"""The report as one self-contained HTML file: no outside request, readable without scripts, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from scalex.disk import write_atomic
from scalex.errors import ScalexError
from scalex.report import ledger, numbers, parts, table, theme, views, words
from scalex.report import manifest as manifests
from scalex.report.pictures import Picture, strips
from scalex.report.sections import FOLD, Section, section

__all__ = ["LARGEST", "assets", "environment", "render", "write"]

LARGEST = 5_000_000  # bytes of the whole file
_ROWS = 2_000  # findings shown where all of them would make the file too large
_MARKUP = 800  # bytes that a strip needs in the page beside its pixels, and about what the smallest has of these
_ROOM = 500_000  # bytes kept for pictures, so that what leans furthest has some
_HERE = Path(__file__).parent


def render(
    findings: pd.DataFrame,
    manifest: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Picture]],
    path: Path,
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> Path:
    """Writes the report and returns where it is.

    Args:
        findings: one row per finding, with the columns of `Finding`. May be empty.
        manifest: what ran; see `scalex.report.manifest.Manifest`. Only `model` is required.
        pictures: for each concept, decoded pictures in the order of their seeds, uint8 of shape (height, width, 3). The
            first eight are shown, smaller where the file would grow beyond 5 MB, and where that is not enough those of
            the concepts that lean furthest.
        path: the file to write, replaced in one step.
        tables: what analyses left beside their findings, named `ANALYSIS-READING-TABLE`.

    Raises:
        ScalexError: a column or the model's name is missing, or the file cannot be written.
    """
    frame, told = views.checked(findings), manifests.checked_manifest(manifest)
    template = environment().get_template("report.html.j2")
    whole, panels = _page(frame, told), parts.panels(frame, tables, told)
    if panels and not whole["sections"]:
        whole["headline"] = panels[0][1].heading  # an audit without attributes
    for page in _slimmer(whole | {"panels": panels}):
        room = LARGEST - len(template.render(page).encode())
        if room > (_ROOM if pictures else 0):
            break
    shown = {c: pictures[c] for c in _shown(page)[: max(0, room // (2 * _MARKUP))] if c in pictures}
    page["strips"] = strips(shown, room - _MARKUP * (len(shown) + 1))
    return write(Path(path), template.render(page))


def _shown(page: Mapping[str, Any]) -> list[str]:
    """The concepts whose pictures stand on the page, those that lean furthest first."""
    strongest = [e.concept for s in page["sections"] for _, _, held in s.strongest for e in held]
    return list(dict.fromkeys([*strongest, *(e.concept for e in page["entries"])]))


def _slimmer(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The page, and then with less and less of what the tables beside the report hold too."""
    yield page
    page = {**page, "slim": True}
    page["sections"] = [replace(s, figures=tuple(f for f in s.figures if not f.folded)) for s in page["sections"]]
    yield page
    page = {**page, "entries": page["entries"][:FOLD]}
    yield page
    yield {**page, "table": page["table"][:_ROWS]}


def write(path: Path, text: str) -> Path:
    """Writes a page, whole or not at all.

    Raises:
        ScalexError: it cannot be written.
    """
    try:
        write_atomic(path, text)
    except OSError as error:
        raise ScalexError(
            f"the report cannot be written to {path}: {error.strerror}", "Choose another folder"
        ) from error
    return path


@cache
def environment() -> jinja2.Environment:
    """The templates of all pages, with the filters that they use."""
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(count=numbers.count, duration=numbers.duration, flop=numbers.flop, plural=numbers.plural)
    made.filters.update(
        joined=words.joined, capital=words.capital, measure=numbers.measure, day=numbers.day, isolated=words.isolated
    )
    return made


def _page(findings: pd.DataFrame, manifest: Mapping[str, Any]) -> dict[str, Any]:
    rules, spec = manifests.rules(manifest), manifests.attribute_values(manifest)
    sections = [section(findings, name, rules.margin, spec) for name in views.attributes(findings)]
    return {
        "headline": words.headline([s.tally for s in sections]),
        "sections": sections,
        "rules": rules,
        "along": words.ALONG[rules.lean_direction],
        "manifest": {**dict.fromkeys(manifests.Manifest.__annotations__), **manifest},
        "examples": _examples(manifest, sections),
        "facts": _facts(findings, manifest),
        "entries": ledger.entries(findings, views.by_strength(findings), rules.margin, spec),
        "most": FOLD,
        "columns": table.COLUMNS,
        "table": table.cells(findings),
        "choices": {name: list(findings[name].unique()) for name in ("attribute", "analysis", "reading", "verdict")},
        "templates": manifests.templates(manifest),
        "n_templates": int(findings["n_templates"].max()) if len(findings) else 0,
        "distilled": _distilled(manifest),
        "listed": manifests.listed(manifest),
        "adaptive": manifests.adaptive(manifest),
        "number": len(findings),
        "slim": False,
        "strips": {},
        **assets(),
    }


def _examples(manifest: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, tuple[str, list[str]]]:
    """For each attribute one concept's prompts, of the concept that leans furthest where one leans."""
    found = {}
    for s in sections:
        leaning = [targets[0] for targets in s.tally.leaning.values() if targets]
        some = [*leaning[-1:], *s.tally.balanced, *s.tally.undecided, *s.tally.unexpressed][:1]
        example = manifests.variant_example(manifest, s.attribute, some[0]) if some else None
        if example:
            found[s.attribute] = example
    return found


_ONE = {"concepts": "concept", "prompts": "prompt", "templates": "template", "seeds each": "seed each"}


def _facts(findings: pd.DataFrame, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers under the headline."""
    known = findings[findings["analysis"].isin(["defaults", "rates"])]
    facts = [
        ("concepts", numbers.count(_asked(findings, known, manifest))),
        ("prompts", _said(manifest.get("n_prompts"), numbers.count)),
        ("templates", _said(len(manifests.templates(manifest)) or None, numbers.count)),
        ("seeds each", _seeds(findings, known, manifest)),
        ("samples read", _said(manifest.get("n_samples"), numbers.count)),
        ("compute", _said(manifest.get("flops"), numbers.flop)),
        (_time_of(manifest), _said(manifest.get("seconds"), numbers.duration)),
    ]
    return [(_ONE.get(name, name) if value == "1" else name, value) for name, value in facts if value]


def _asked(findings: pd.DataFrame, known: pd.DataFrame, manifest: Mapping[str, Any]) -> int:
    """How many concepts were asked for. Targets of analyses that take all at once may be clusters or groups."""
    concepts = manifests.concepts(manifest)
    return len(concepts) if concepts and not len(known) else (known if len(known) else findings)["target"].nunique()


def _seeds(findings: pd.DataFrame, known: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    """How many seeds a concept has; of an audit that added some where it was undecided, the fewest and the most."""
    if manifest.get("looks") and known["n_seeds"].nunique() > 1:
        return " to ".join(numbers.count(int(n)) for n in (known["n_seeds"].min(), known["n_seeds"].max()))
    seeds = manifests.asked(manifest, "seeds") or (int(findings["n_seeds"].max()) if len(findings) else None)
    return _said(seeds, numbers.count)


def _time_of(manifest: Mapping[str, Any]) -> str:
    """What the time is: of everything, or of this run alone where samples were there already."""
    held = (manifest.get("n_samples") or 0) - (manifest.get("n_captured") or 0)
    return "time of this run" if held and manifest.get("n_captured") is not None else "time"


def _said(value: Any, how: Any) -> str:
    return "" if value is None else str(how(value))


def _distilled(manifest: Mapping[str, Any]) -> bool:
    """Whether the audit went through a distilled few-step sampler, and so speaks of that."""
    told = (str(manifests.asked(manifest, key) or "") for key in ("sampler", "model", "unet", "lora"))
    return any(name in text.lower() for text in told for name in ("lcm", "turbo", "lightning"))


@cache
def assets() -> dict[str, Any]:
    """Style, fonts, script and the policy that lets nothing else run or load."""
    script = (_HERE / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fonts = "".join(_font(name, file) for name, file in (("Inter", "inter"), ("Newsreader", "newsreader")))
    light, dark = theme.css_variables(theme.LIGHT), theme.css_variables(theme.DARK)
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    style = (_HERE / "templates" / "report.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    return {"style": Markup(fonts + colours + style), "script": Markup(script), "policy": policy}


def _font(name: str, file: str) -> str:
    data = base64.b64encode((_HERE / "assets" / f"{file}.woff2").read_bytes()).decode()
    source = f"url(data:font/woff2;base64,{data}) format('woff2')"
    return f"@font-face{{font-family:{name};font-weight:100 900;font-display:swap;src:{source}}}"
