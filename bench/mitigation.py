"""Rules of mitigation beside each other, by the exact readout: which few are steered, every picture, or all alike.

    python bench/mitigation.py [FOLDER]

One calibration (into FOLDER, by default runs/bench-mitigation) serves all rules.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from scalex.jobs import prepare
from scalex.mitigation import RULES, evaluate, fit, refitted
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import Readout, load_truth
from scalex.scorers.exact import Exact
from scalex.store import Store

VALUES = ("man", "woman")
FRESH = range(2_600_000, 2_600_016)


def main(folder: Path) -> None:
    truth = load_truth(EMBEDDED)
    roles = [role for role, of in truth.spec.roles.items() if not 0.2 <= of.woman <= 0.8]
    templates = ["a photo of a {}", "a picture of a {}"]
    job = prepare(
        spec={"concepts": roles, "attributes": ["gender"], "templates": templates, "seeds": 16, "probe": "up_blocks.0"}
    )
    mitigation = fit(job, Store.open(folder / "store"), "gender", 0.5, rule="every")
    readout = Readout(truth, job.model)
    scorers = [Exact(readout, "gender", VALUES), Exact(readout, "concept", tuple(roles))]
    rows = []
    for rule in RULES:
        found = evaluate(job, refitted(mitigation, rule, 0.9), seeds=FRESH, scorers=scorers, methods=("mitigated",))
        rows.append({"rule": rule, **found.summary.set_index("method").loc["mitigated"]})
        found.table.to_csv(folder / f"{rule}.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench-mitigation"))
