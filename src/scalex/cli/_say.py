"""What commands print: tables, JSON, marks, notes, and how far they are."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from scalex.jobs import Job
    from scalex.organisms.loop import StageOutlook
    from scalex.organisms.marks import Mark
    from scalex.outlook import Outlook

__all__ = [
    "SHOWN",
    "be_quiet",
    "finish",
    "progress",
    "records",
    "say",
    "say_json",
    "say_notes",
    "say_outlook",
    "say_table",
    "say_training",
    "stages",
]


SHOWN = 20  # images, or files that were skipped, on the screen
_EVERY = 60.0  # seconds between lines where there is no terminal

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def be_quiet(asked: bool) -> bool:
    """Whether this command says neither progress nor notes."""
    _quiet.set(asked)
    return asked


def say_outlook(job: Job, ahead: Outlook, as_json: bool) -> None:
    from dataclasses import asdict

    from scalex.jobs import notes_of

    say_notes(notes_of(job))
    if as_json:
        say_json(asdict(ahead))
        return
    ends = [("at least ", ahead), ("at most ", ahead.most)] if ahead.most else [("", ahead)]
    for bound, end in ends:
        typer.echo(
            f"{bound}{end.samples:,} samples of {end.texts:,} texts, {end.flops / 1e12:,.2f} TFLOP, "
            f"{end.bytes / 1e6:,.1f} MB on disk, {end.memory / 1e9:,.1f} GB of memory, "
            f"about {end.seconds:,.0f} s on {job.model.device}"
        )


def say_training(stages: Sequence[StageOutlook], size: int, device: str, as_json: bool) -> None:
    from scalex.report import numbers

    steps, seconds = sum(s.steps for s in stages), sum(s.seconds for s in stages)
    held = size + sum(s.bytes for s in stages)
    if as_json:
        whole = {"steps": steps, "seconds": seconds, "bytes": held, "stages": [s._asdict() for s in stages]}
        say_json(whole)
        return
    for s in stages:
        typer.echo(f"{s.stage}: {s.steps:,} steps of {s.batch} samples, about {numbers.duration(s.seconds)}")
    told = f"{steps:,} steps, {held / 1e6:,.1f} MB on disk, about {numbers.duration(seconds)} on {device}"
    typer.echo(f"in all {told}")


def say_notes(notes: list[str]) -> None:
    """What the report notes of the run, on standard error."""
    if _quiet.get():
        return
    for note in notes:
        typer.echo(f"scalex: note: {note}", err=True)


def finish(marks: list[Mark], as_json: bool) -> None:
    if as_json:
        say_json([m.row() for m in marks])
    else:
        for m in marks:
            said = "    " if m.mark is None else "ok  " if m.ok else "MISS"
            over = " ({:.3f} to {:.3f})".format(*m.spread) if m.spread else ""
            typer.echo(f"{said}  {m.value:8.3f}  {m.asked:<12}  {m.name}{over}")
    if not all(m.ok for m in marks):
        raise typer.Exit(1)


def say(result: Any, as_json: bool) -> None:
    if as_json:
        say_json(result)
        return
    for row in result if isinstance(result, list) else [result]:
        typer.echo("  ".join(f"{k} {v}" for k, v in row.items() if v != ""))


def say_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of text, their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def say_json(result: Any) -> None:
    typer.echo(json.dumps(result, indent=1, ensure_ascii=False, default=str))


def records(findings: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(findings.to_json(orient="records"))
    return records


class _Lines:
    """Progress where there is no terminal: a line when a task is done, and one a minute until then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tasks: list[tuple[str, int]] = []
        self._said = clock()

    def add_task(self, name: str, total: int, note: str) -> int:
        self._tasks.append((name, total))
        return len(self._tasks) - 1

    def update(self, task: int, completed: int, note: str, **_: Any) -> None:
        name, total = self._tasks[task]
        if completed < total and self._clock() - self._said < _EVERY:
            return
        self._said = self._clock()
        typer.echo(f"scalex: {name} {completed:,}/{total:,}{note and f', {note}'}", err=True)


class _Silence:
    """Progress that nobody asked to see."""

    def add_task(self, *_: Any, **__: Any) -> int:
        return 0

    def update(self, *_: Any, **__: Any) -> None:
        pass


class _Bars:
    """Progress in a terminal: bars that appear when there is something to do."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
        )
        self.update = self._bars.update
        self.stop = self._bars.stop

    def add_task(self, name: str, total: int, note: str) -> int:
        self._bars.start()
        return self._bars.add_task(name, total=total, note=note)


@contextmanager
def _bar() -> Iterator[Any]:
    if _quiet.get():
        yield _Silence()
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.stop()


@contextmanager
def progress(*stages: str) -> Iterator[list[Callable[[int, int], None]]]:
    """A bar for each stage on standard error, with rate and time left; it appears when there is something to do."""
    with _bar() as bar:
        yield [partial(_show, bar, stage, {}) for stage in stages]


def _show(bar: Any, stage: str, began: dict[str, Any], done: int, total: int) -> None:
    if not total:
        return
    now = time.monotonic()
    if began.get("total") != total or done < began["done"]:  # the first of a stage, or of its next part
        began |= {"at": now, "from": done, "task": bar.add_task(stage, total=total, note=""), "total": total}
    began["done"] = done
    bar.update(began["task"], completed=done, total=total, note=_rate(done - began["from"], now - began["at"]))


def _rate(done: int, seconds: float) -> str:
    """`12/s`; nothing where nothing was timed yet."""
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:,.{0 if rate >= 10 else 1}f}/s"


@contextmanager
def stages() -> Iterator[Callable[[str, int, int, float], None]]:
    """One bar for each stage of a training."""
    with _bar() as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, note="")
            bar.update(tasks[stage], completed=done, note=f"loss {loss:.4f}")

        yield show
