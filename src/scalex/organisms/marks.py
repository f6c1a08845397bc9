"""A measured figure and the mark that it must reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Mark"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured figure. `ok` is `value >= mark`, or `<=` where `at_most`; a figure without a mark is only reported.

    Attributes:
        within: an upper end beside the mark, where the value must lie between the two.
        spread: the least and the greatest of the values whose mean this is, where they differ.
    """

    name: str
    value: float
    mark: float | None = None
    at_most: bool = False
    within: float | None = None
    spread: tuple[float, float] | None = None

    @property
    def ok(self) -> bool:
        """Whether the mark is reached. An unknown value never reaches one."""
        if self.mark is None:
            return True
        if math.isnan(self.value):
            return False
        if self.within is not None:
            return self.mark <= self.value <= self.within
        return self.value <= self.mark if self.at_most else self.value >= self.mark

    @property
    def asked(self) -> str:
        """The mark in words: ">= 0.95", "0.9 to 0.99", "" for none."""
        if self.mark is None:
            return ""
        if self.within is not None:
            return f"{self.mark:g} to {self.within:g}"
        return f"{'<=' if self.at_most else '>='} {self.mark:g}"

    def row(self) -> dict[str, object]:
        """As `{name, value, mark, ok}`, and `spread` where there is one; the mark in words, since it may be a range."""
        value = None if math.isnan(self.value) else self.value
        row: dict[str, object] = {"name": self.name, "value": value, "mark": self.asked, "ok": self.ok}
        return row | ({"spread": list(self.spread)} if self.spread else {})
