"""The command line: one thin command a stage. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from scalex.cli import (
    audits,
    autoencoders,
    directions,
    doctor,
    explain,
    library,
    mitigating,
    organisms,
    probes,
    steering,
    stores,
)
from scalex.cli._help import DIRECTIONS, REST, Group
from scalex.errors import ScalexError

__all__ = ["app", "main"]

app = typer.Typer(
    name="scalex",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(audits.app)
app.add_typer(probes.app)
app.add_typer(steering.app)
app.add_typer(mitigating.app)
app.add_typer(directions.app)
app.add_typer(library.app, name="directions", rich_help_panel=DIRECTIONS)
app.add_typer(autoencoders.app)
app.add_typer(explain.app)
app.add_typer(stores.app, name="store", rich_help_panel=REST)
app.add_typer(organisms.app, name="organism", rich_help_panel=REST)
app.add_typer(doctor.app)

_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")  # click's, or typer's own


def _say_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"scalex {version('scalex-diffusion')}")
        raise typer.Exit
    return asked


VersionOpt = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and stop.")
]


@app.callback()
def _root(version: VersionOpt = False) -> None:
    """Audit text-to-image diffusion models from the inside."""


def main() -> None:
    """Runs the command line: a user's mistake is one line on standard error and exit code 2."""
    warnings.showwarning = _say_warning
    try:
        code = app(prog_name="scalex", standalone_mode=False)
    except ScalexError as error:
        typer.echo(f"scalex: {error}", err=True)
        sys.exit(2)
    except _UsageError as error:
        _say_usage(error)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _say_usage(error: Any) -> None:
    """A mistake of the command line itself in one line; where a group is called without a command, its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    wrong = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx else "scalex"
    typer.echo(f"scalex: {wrong[:1].lower()}{wrong[1:]}. See: {command} --help", err=True)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"scalex: warning: {message}", err=True)
