"""Audit text-to-image diffusion models from the inside.

    audit = scalex.audit("path/to/model", {"concepts": ["nurse", "pilot"], "attributes": ["gender"]})
    print(audit.summary)
    audit.findings  # a table: one row a finding, with interval, p, q and verdict

audit, open_run, analyze, render_report: a run from end to end, one that is there already, and its stages again.
compare, check: what moved between two models or runs, and whether a run keeps limits.
steer, Push, Erase, together: directions in pictures of a pipeline. Mitigation: rates brought to their targets.
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
    from scalex.errors import ScalexError
    from scalex.explanations import explain_classifier
    from scalex.gating import Gate, check
    from scalex.jobs import prepare
    from scalex.mitigation import Mitigation
    from scalex.models import load_model
    from scalex.prompts import AuditSpec, load_spec
    from scalex.steering import Erase, Push, steer, together
    from scalex.store import Store

__all__ = [
    "Audit",
    "AuditSpec",
    "Comparison",
    "Erase",
    "Gate",
    "Mitigation",
    "Push",
    "ScalexError",
    "Store",
    "analyze",
    "audit",
    "check",
    "compare",
    "explain_classifier",
    "load_model",
    "load_spec",
    "open_run",
    "prepare",
    "render_report",
    "steer",
    "together",
]

_HOMES = {
    **dict.fromkeys(("Audit", "analyze", "audit", "open_run", "render_report"), "scalex.auditing"),
    **dict.fromkeys(("AuditSpec", "load_spec"), "scalex.prompts"),
    **dict.fromkeys(("Comparison", "compare"), "scalex.comparing"),
    **dict.fromkeys(("Gate", "check"), "scalex.gating"),
    **dict.fromkeys(("Erase", "Push", "steer", "together"), "scalex.steering"),
    "Mitigation": "scalex.mitigation",
    "ScalexError": "scalex.errors",
    "Store": "scalex.store",
    "explain_classifier": "scalex.explanations",
    "load_model": "scalex.models",
    "prepare": "scalex.jobs",
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
