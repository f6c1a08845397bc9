"""Help pages: options in groups, commands with their whole sentence, and examples to copy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from scalex.cli._say import be_quiet

__all__ = ["AUDIT", "DIRECTIONS", "GATE", "INSIDE", "REST", "Command", "Group", "command"]

AUDIT, GATE, DIRECTIONS, INSIDE, REST = (  # groups of commands
    "Audit",
    "Compare and gate",
    "Directions",
    "Without prompts, and inside",
    "Around it",
)


_QuietOpt = Annotated[
    bool,
    typer.Option(
        "--quiet",
        callback=be_quiet,
        help="Neither progress nor notes on standard error: only warnings and mistakes.",
    ),
]


class Command(TyperCommand):
    """A command whose options are listed in the groups that they name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.epilog.splitlines()))


class Group(TyperGroup):
    """Commands in the groups that they name, each with the whole first sentence of its help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self.get_params(ctx), ctx, formatter)
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = ((_heading(one, "Commands"), (name, _sentence(one.help))) for name, one in found if one)
        _write(rows, formatter)


def command(app: typer.Typer, name: str | None = None, *, group: str = "", examples: Iterable[str] = ()) -> Any:
    """Makes a function a command of `app`.

    Args:
        group: heading that it is listed under.
        examples: command lines, each whole and as it can be run.
    """
    register = app.command(name, cls=Command, epilog="\n".join(examples), rich_help_panel=group or None)
    return lambda function: register(_quietable(function))


def _quietable(function: Callable[..., None]) -> Callable[..., None]:
    """The command with `--quiet`, before `--json` where that is its last option."""
    signature = inspect.signature(function, eval_str=True)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    last = [p for p in own if p.name == "json_"]
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_QuietOpt)

    @wraps(function)
    def called(quiet: bool, **values: Any) -> None:
        function(**values)

    whole = [*(p for p in own if p not in last), quiet, *last]
    del called.__wrapped__  # its signature is not this one's
    called.__signature__ = signature.replace(parameters=whole)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in whole} | {"return": None}
    return called


def _write_parameters(parameters: Iterable[Any], ctx: Any, formatter: Any) -> None:
    named = ((p, p.get_help_record(ctx)) for p in parameters)
    own = {"argument": "Arguments", "option": "Options"}
    rows = [(_heading(p, own[p.param_type_name]), record) for p, record in named if record]
    _write(sorted(rows, key=lambda row: row[0] not in own.values()), formatter)  # its own ones first


def _heading(one: Any, otherwise: str) -> str:
    return getattr(one, "rich_help_panel", None) or otherwise


def _write(rows: Iterable[tuple[str, tuple[str, str]]], formatter: Any) -> None:
    """Rows under their headings, headings in the order in which they come up."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for heading, row in rows:
        groups.setdefault(heading, []).append(row)
    for heading, together in groups.items():
        with formatter.section(heading):
            formatter.write_dl(together)


def _sentence(text: str | None) -> str:
    return re.split(r"(?<=\.)\s", " ".join((text or "").split()))[0]
