"""Engines: an open set. Each runs the same plan of what a store is missing, in this process or elsewhere."""

from __future__ import annotations

from scalex.engine.local import Filled, fill, missing

__all__ = ["Filled", "fill", "missing"]
