"""Image conditioning: what a run says of prompts, tried on images (the validation of SCALEX, on our readings).

Images -> the model's autoencoder -> noise to the level of the picture reading, with the run's own seeds -> one stopped
forward with the empty prompt -> latents at the same probe, which are comparable with those of the run's prompts.

(a) The difference between two sets of images is a direction: does it agree with the prompts' own? (b) Each image is
named by the prompt whose pictures are most like it, or by none where chance comes as near. (c) Pictures drawn anew of
the run's prompts should be named right.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from scalex import runs
from scalex.analyses.naming import UNFIT
from scalex.auditing import Audit, latents_of, render_report
from scalex.capture import Progress
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError, resumable
from scalex.images import ImageFile, list_images, read_image
from scalex.jobs import Job, prepare
from scalex.prompts import load_spec
from scalex.records import Finding, Latents, Prompt, Rules
from scalex.report import numbers, views, write_tables
from scalex.store import Store
from scalex.validation import _judging
from scalex.validation._judging import NAME
from scalex.validation._names import Names
from scalex.validation._reading import Reader

__all__ = ["DRAWN", "NAME", "Conditioned", "condition", "judge", "neutral"]

DRAWN = "pictures drawn of the prompts"
_FIRST_DRAWN = 2_000_000  # seeds of pictures drawn anew: far from those of an audit
_THUMBS, _SIDE = 24, 64


@dataclass(frozen=True)
class Conditioned:
    """What images told.

    Attributes:
        findings: one row a finding, as in `scalex.records.Finding`.
        tables: `images` (each in words), `directions`, `positions` (leans of images) and `shown` (small pictures).
        skipped: by name why a file gave no picture.
        folder: of the run that it was written to. images: the folder that was read.
    """

    findings: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    skipped: Mapping[str, str]
    folder: Path
    images: Path

    @property
    def text(self) -> str:
        """All of it but the small pictures, as JSON: what `images.json` holds."""
        parts = {"findings": self.findings, **{name: t for name, t in self.tables.items() if name != "shown"}}
        told = {name: json.loads(table.to_json(orient="records")) for name, table in parts.items()}
        told |= {"folder": str(self.images), "run": str(self.folder), "skipped": dict(self.skipped)}
        return json.dumps(told, ensure_ascii=False, indent=1)

    def lines(self, most: int) -> Iterator[str]:
        """What to print: every finding, the first images with their names, and where the others are."""
        for f in views.records(self.findings):
            what = " ".join(filter(None, (f["target"], f["attribute"], f["value"], f["unit"])))
            ends = numbers.interval(f["low"], f["high"], f["unit"])
            yield f"{what}: {numbers.estimate(f['estimate'], f['unit'])} ({ends}), {f['verdict']}. {f['reason']}"
        for row in views.records(self.tables["images"].head(most)):
            near = f"{row['nearest']} (cosine {row['cosine']:.2f}, then {row['second']})"
            unfit = f"{UNFIT}, the nearest is {near}; a name must reach about {row['needed']:.2f}"
            yield f"{row['file']}: {near if row['name'] else unfit if row['nearest'] else UNFIT}"
        yield f"All {len(self.tables['images'])} images: {self.folder / 'images.json'}"

    def warnings(self, most: int) -> Iterator[str]:
        """What to print of files that gave no picture: the first of them, and how many there are."""
        yield from (f"{name} {reason}" for name, reason in list(self.skipped.items())[:most])
        if self.skipped:
            yield f"{numbers.plural(len(self.skipped), 'file')} skipped"


def condition(
    folder: str | Path,
    run: str | Path,
    *,
    labels: Path | None = None,
    attributes: Sequence[str] = (),
    seeds: int = 8,
    draw: int = 1,
    store: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    drawing: Progress | None = None,
) -> Conditioned:
    """Reads a folder of images with a run's model and compares them with the run's prompts.

    Leaves `images.json` and `validation/image_conditioning/` in the run's folder, and renders its report again.

    Args:
        labels: a table of labels, where it is not `labels.csv` in the folder. Subfolders are labels too.
        attributes: to compare directions on; by default all that the labels speak of.
        seeds: of the reading noise, the first of the run's. Level 100 of 1,000 is little noise: a few will do.
        draw: pictures drawn of each prompt and named, to tell how far names can be trusted; 0 for none.
        store: of the run's latents, where it is not any more where the run found it.
        progress: called with images done and to do. drawing: with drawn pictures done and to do.

    Raises:
        ScalexError: the folder holds no image that can be read, the labels do not fit, the run has no picture reading,
            or its model is not there any more.
    """
    files = list_images(Path(folder), labels)
    place, manifest = runs.read_manifest(run)
    prompts, kept = _prompts_of(place, manifest, store)
    spec = load_spec(manifest["spec"])
    chosen = _judging.attributes_in([f.labels for f in files], spec.attribute_values, attributes)
    told = {name: spec.attribute_values[name] for name in chosen}
    job = _job_of(manifest, place, device)
    with resumable("all images that were read are kept"):
        reader = Reader(job.model, job.plan, Store.open(kept), prompts.seeds[: max(1, seeds)], progress)
        images, skipped = reader.files(files)
        if not images.prompts:
            name, reason = next(iter(skipped.items()))
            wrong = f"no file in {folder} is an image that can be read: {name} {reason}"
            raise ScalexError(wrong, "Name another folder")
        asked, new = neutral(prompts), range(_FIRST_DRAWN, _FIRST_DRAWN + draw)
        drawn = replace(reader, progress=drawing).drawn(asked, new) if draw else None
    read = [file for file in files if file.name not in skipped]
    labelled = [file.labels for file in read]
    found, tables = judge(images, labelled, prompts, told, Path(folder).resolve().name, drawn, spec.rules)
    tables["shown"] = _thumbs(read, tables["images"])
    return _written(Conditioned(_frame(found), tables, skipped, place, Path(folder)), manifest)


def judge(
    images: Latents,
    labels: Sequence[Sequence[str]],
    prompts: Latents,
    attributes: Mapping[str, Sequence[str]],
    target: str,
    drawn: Latents | None,
    rules: Rules,
) -> tuple[list[Finding], dict[str, pd.DataFrame]]:
    """Findings and tables of images that were read.

    Args:
        labels: of each image. attributes: to compare directions on. target: what the images are called in findings.
        drawn: pictures drawn of the prompts, one or more of each; their concept is the name that they should get.
    """
    names = Names.of(prompts)
    found, table = _judging.directions(images, labels, prompts, attributes, target, rules)
    n = prompts.n_templates
    own = [next((label for label in row if label in names.names), "") for row in labels]
    found += _judging.found_again(images, own, names, target, rules, n)
    if drawn is not None:
        found += _judging.found_again(drawn, [p.concept for p in drawn.prompts], names, DRAWN, rules, n)
    named = _judging.names_of(images, labels, names, rules)
    places = _judging.positions(images, labels, list(named["nearest"]), prompts, attributes)
    tables = {"images": named, "directions": table, "positions": places}
    return _judging.concluded(found, rules), tables


def neutral(prompts: Latents) -> list[Prompt]:
    """One neutral prompt of each name that images can get."""
    known = Names.of(prompts).names
    first: dict[str, Prompt] = {}
    for p in prompts.prompts:
        if p.concept in known and not p.attribute and p.role != "reference":
            first.setdefault(p.concept, p)
    return list(first.values())


def _prompts_of(place: Path, manifest: Mapping[str, Any], store: str | Path | None) -> tuple[Latents, str]:
    """The picture reading of a run's prompts, and where the store is."""
    if "picture" not in manifest["recipes"]:
        way_out = "Audit with `readings: [text, picture]`: images are read like pictures"
        raise ScalexError(f"the run {place} has no picture reading", way_out)
    if manifest["spec"].get("moments"):
        raise ScalexError(f"the run {place} keeps moments, and images are held against single seeds", "Audit without")
    kept = runs.store_of(place, store) if store else runs.kept_store(place, manifest)
    return latents_of(Audit(pd.DataFrame(), {**manifest, "store": kept}, place))["picture"], kept


def _job_of(manifest: Mapping[str, Any], place: Path, device: str | None) -> Job:
    """The run's model and plan once more.

    Raises:
        ScalexError: what the run's spec names is not the model that was captured.
    """
    job = prepare(spec=manifest["spec"], device=device, precision=manifest.get("dtype"))
    if job.plan.recipes(job.model)["picture"].id != manifest["recipes"]["picture"]:
        wrong = f"the model of the run {place} is not any more the one that was captured"
        raise ScalexError(wrong, "Put it back, or audit again")
    return job


def _frame(found: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame([asdict(f) for f in found], columns=list(Finding.columns()))


def _thumbs(files: Sequence[ImageFile], named: pd.DataFrame) -> pd.DataFrame:
    """Some of the images, small, as data URIs. Columns: file, labels, name, picture."""
    step = max(1, -(-len(files) // _THUMBS))
    rows = named.iloc[::step]
    pictures = [_thumb(read_image(file.path, (_SIDE, _SIDE))) for file in files[::step]]
    return rows[["file", "labels", "name"]].assign(picture=pictures)


def _thumb(pixels: Any) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def _written(done: Conditioned, manifest: Mapping[str, Any]) -> Conditioned:
    """Leaves findings and tables beside those of the run, and a report with them where there is one."""
    place = runs.validation_folder(done.folder, NAME)
    with disk_errors(place, option="--run"):
        write_tables(done.findings, place)
        runs.save_tables(place, {f"{NAME}-picture-{name}": table for name, table in done.tables.items()})
        runs.stamp_validation(place, manifest)
        write_atomic(done.folder / "images.json", done.text + "\n")
    if (done.folder / "findings.parquet").is_file():
        render_report(done.folder)
    return done
