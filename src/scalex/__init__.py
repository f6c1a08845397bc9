"""Audit text-to-image diffusion models from the inside.

    audit = scalex.audit("path/to/model", {"concepts": ["nurse", "pilot"], "attributes": ["gender"]})
    print(audit.summary)
    audit.findings  # a table: one row a finding, with interval, p, q and verdict

audit, open_run, analyze, render_report: a run from end to end, one that is there already, and its stages again.
compare, check: what moved between two models or runs, and whether a run keeps limits.
steer, Push, Erase, together: directions in pictures of a pipeline. Mitigation: rates brought to their targets.
Direction, load_direction, save_direction: what is steered along, and its files. discover_directions, name_run: those
that nobody asked for, and what any of them means.
validate, dose_response: do pictures follow as findings say? Case, cases_of, Doses, Drawings: what that takes.
switch_off: what leaves pictures without a direction, or without latents of a sparse autoencoder.
explain_classifier: which semantics move a classifier of images.
load_spec, load_model, prepare, Store: what the modules of each stage take.

A user's mistake raises `ScalexError`: what is wrong and the way out, in one line. Names are loaded on first use, so
that `import scalex` stays fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalex.auditing import Audit, analyze, audit, open_run, render_report
    from scalex.comparing import Comparison, compare
    from scalex.direction_files import Direction, load_direction, save_direction
    from scalex.discovering import discover_directions
    from scalex.drawings import Drawings
    from scalex.errors import ScalexError
    from scalex.explanations import explain_classifier
    from scalex.gating import Gate, check
    from scalex.jobs import prepare
    from scalex.mitigation import Mitigation
    from scalex.models import load_model
    from scalex.naming import name_run
    from scalex.prompts import AuditSpec, load_spec
    from scalex.steering import Erase, Push, steer, together
    from scalex.store import Store
    from scalex.switching import switch_off
    from scalex.validation.dose_response import Case, Doses, cases_of, dose_response, validate

__all__ = [
    "Audit",
    "AuditSpec",
    "Case",
    "Comparison",
    "Direction",
    "Doses",
    "Drawings",
    "Erase",
    "Gate",
    "Mitigation",
    "Push",
    "ScalexError",
    "Store",
    "analyze",
    "audit",
    "cases_of",
    "check",
    "compare",
    "discover_directions",
    "dose_response",
    "explain_classifier",
    "load_direction",
    "load_model",
    "load_spec",
    "name_run",
    "open_run",
    "prepare",
    "render_report",
    "save_direction",
    "steer",
    "switch_off",
    "together",
    "validate",
]

_HOMES = {
    **dict.fromkeys(("Audit", "analyze", "audit", "open_run", "render_report"), "scalex.auditing"),
    **dict.fromkeys(("AuditSpec", "load_spec"), "scalex.prompts"),
    **dict.fromkeys(("Comparison", "compare"), "scalex.comparing"),
    **dict.fromkeys(("Gate", "check"), "scalex.gating"),
    **dict.fromkeys(("Erase", "Push", "steer", "together"), "scalex.steering"),
    **dict.fromkeys(("Direction", "load_direction", "save_direction"), "scalex.direction_files"),
    **dict.fromkeys(("Case", "Doses", "cases_of", "dose_response", "validate"), "scalex.validation.dose_response"),
    "Drawings": "scalex.drawings",
    "Mitigation": "scalex.mitigation",
    "ScalexError": "scalex.errors",
    "Store": "scalex.store",
    "discover_directions": "scalex.discovering",
    "explain_classifier": "scalex.explanations",
    "load_model": "scalex.models",
    "name_run": "scalex.naming",
    "prepare": "scalex.jobs",
    "switch_off": "scalex.switching",
}


# Read when Lance is first imported: else it warns thousands of times of a queue's length while it learns cells.
os.environ.setdefault("LANCE_LOG", "error")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scalex' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
