"""Model organisms: small real diffusion models with known, planted associations; the ground truth."""

from __future__ import annotations

from pathlib import Path

__all__ = ["EMBEDDED", "EMBEDDED_DISCOVERY", "EMBEDDED_SPEC", "EMBEDDED_UNET"]

_HERE = Path(__file__).parent

EMBEDDED = _HERE / "emoji"
"""The folder of the organism that ships with the package."""

EMBEDDED_SPEC = _HERE / "audit.yaml"
"""What an audit of it asks by default."""

EMBEDDED_DISCOVERY = _HERE / "discover.yaml"
"""What the search for associations asks of it by default."""

EMBEDDED_UNET = "lcm"
"""Its distilled U-Net, which audits read by default."""
