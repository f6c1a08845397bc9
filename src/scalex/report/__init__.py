"""The report: findings as charts, as one self-contained HTML page, as tables and as a section for a model card."""

from scalex.report.charts import Layout, lean_chart, overview_chart, rates_chart, says_shows_chart
from scalex.report.exports import model_card, write_tables
from scalex.report.html import render
from scalex.report.manifest import Manifest
from scalex.report.words import summary

__all__ = [
    "Layout",
    "Manifest",
    "lean_chart",
    "model_card",
    "overview_chart",
    "rates_chart",
    "render",
    "says_shows_chart",
    "summary",
    "write_tables",
]
