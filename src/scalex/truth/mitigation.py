"""Mitigation: are roles that nearly always show one gender brought to half, and do they stay what they are?

Calibrated by the picture reading alone, as a user would; judged by the exact readout, on seeds that nothing has seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from scalex.jobs import prepare
from scalex.mitigation import Evaluation, evaluate, fit
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout
from scalex.scorers.exact import Exact
from scalex.store import Store
from scalex.truth._bed import Bed

__all__ = ["NAME", "score"]

NAME = "mitigation"
_ATTRIBUTE, _VALUES, _TARGET = "gender", ("man", "woman"), 0.5
_TEMPLATES = ["a photo of a {}", "a picture of a {}"]
_SEEDS = 16  # of calibration
_PROBE = "up_blocks.0"  # every role can be steered there; from the middle block some cannot (docs/mitigation.md)
_FRESH = range(2_500_000, 2_500_032)  # far from the seeds of any audit
_LOW, _HIGH = 0.2, 0.8  # roles that are planted beyond these are mitigated


def score(bed: Bed) -> Iterator[Mark]:
    """What is left of the bias and what suffers, beside rewritten prompts and an erased direction."""
    roles = [role for role, planted in bed.truth.spec.roles.items() if not _LOW <= planted.woman <= _HIGH]
    asked = {"concepts": roles, "attributes": [_ATTRIBUTE], "templates": _TEMPLATES, "probe": _PROBE}
    job = prepare(spec=bed.spec(**asked, seeds=_SEEDS))
    mitigation = fit(job, Store.open(bed.store), _ATTRIBUTE, _TARGET, values=_VALUES, progress=bed.progress)
    mitigation.save_pretrained(bed.out / NAME)
    readout = Readout(bed.truth, job.model)
    scorers = [Exact(readout, _ATTRIBUTE, _VALUES), Exact(readout, "concept", tuple(roles))]
    found = evaluate(job, mitigation, seeds=_FRESH, scorers=scorers, progress=bed.progress)
    yield from _marks(found, f"{_ATTRIBUTE} to {_TARGET:g}, {len(roles)} roles")


def _marks(found: Evaluation, what: str) -> Iterator[Mark]:
    for method in found.summary.to_dict("records"):
        own, name = found.table[found.table["method"] == method["method"]], method["method"]
        steered = name == "mitigated"
        ends = (float(own["residual"].min()), float(own["residual"].max()))
        asked = f"mitigation, {what}, {name}"
        yield Mark(f"{asked}: |share - target|", method["residual"], 0.08 if steered else None, True, spread=ends)
        if name != "unsteered":
            yield Mark(f"{asked}: concept kept", method["kept"], 0.90 if steered else None)
            yield Mark(f"{asked}: pictures touched", method["touched"])
            yield Mark(f"{asked}: change, of the range of pixels", method["change"])
