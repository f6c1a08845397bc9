"""Engines: an open set. Each runs the same plan of what a store is missing, in this process or elsewhere."""

from __future__ import annotations

from scalex.engine._work import Filled, missing
from scalex.engine.local import fill
from scalex.engine.processes import Processes

__all__ = ["Filled", "Processes", "fill", "missing"]
