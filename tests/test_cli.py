"""The command line, as a user runs it: real processes, real models, exact words."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

import scalex as scalex_package
from scalex.auditing import latents_of
from scalex.cli import app, main
from scalex.cli._say import _Lines, progress
from scalex.doctor import examine

Run = Callable[..., subprocess.CompletedProcess[str]]

SPEC = """
seeds: 6
templates: ["a photo of a {}"]
concepts: [cook, pilot]
attributes: {gender: preset}
resamples: 200
permutations: 199
"""

SOURCE = Path(scalex_package.__file__).parent
PLANTED = str(SOURCE / "organisms" / "emoji.yaml")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "notamodel").mkdir()
    files = {
        "spec.yaml": SPEC,
        "bad.yaml": "a: [",
        "typo.yaml": SPEC.replace("seeds", "seed"),
        "vocab.yaml": SPEC.replace("[cook, pilot]", "{vocabulary: profesions}"),
        "unknown.yaml": SPEC.replace("[cook, pilot]", "[qzxjk pilot]"),
        "long.yaml": SPEC.replace("[cook, pilot]", f"[{' '.join(['cook'] * 40)}]"),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def scalex(here: Path) -> Run:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scalex", *args]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, env=environment)

    return run


@pytest.fixture(scope="module")
def audited(scalex: Run) -> dict[str, object]:
    done = scalex("audit", "--spec", "spec.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_every_command_has_help_with_a_sentence(scalex: Run) -> None:
    top = scalex("--help").stdout
    for command in ("audit", "capture", "probe-sweep", "analyze", "report", "organism", "store", "doctor"):
        assert re.search(rf"^  {command} +\w+", top, re.MULTILINE), command
        assert scalex(command, "--help").returncode == 0
    assert "..." not in top.split("Audit:\n")[1], "a sentence is cut off"


def _commands(group: Any, context: Any, path: str = "scalex") -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, context, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_has_an_example_that_it_understands() -> None:
    top = typer.main.get_command(app)
    commands = dict(_commands(top, top.make_context("scalex", ["doctor"])))
    assert {"scalex audit", "scalex store gc"} <= set(commands)
    for path, command in commands.items():
        assert command.epilog, path
        for example in command.epilog.splitlines():
            words = shlex.split(example)
            assert " ".join(words).startswith(path), example
            command.make_context(path, words[len(path.split()) :])


def test_every_command_can_be_quiet_and_print_json() -> None:
    top = typer.main.get_command(app)
    for path, command in _commands(top, top.make_context("scalex", ["doctor"])):
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--quiet", "--json"} <= options, path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str, here: Path) -> None:
    words = {"bash": {"COMP_WORDS": "scalex audit --see", "COMP_CWORD": "2"}}
    typed = words.get(shell, {"_TYPER_COMPLETE_ARGS": "scalex audit --see", "_TYPER_COMPLETE_FISH_ACTION": "get-args"})
    asked = {**os.environ, **typed, "_SCALEX_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([sys.executable, "-m", "scalex"], capture_output=True, text=True, check=False, env=asked)
    assert "--seeds" in done.stdout, done.stderr
    assert "--steps" not in done.stdout


def test_it_says_its_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("--version", monkeypatch) == 0
    assert capsys.readouterr().out == f"scalex {version('scalex-diffusion')}\n"


def test_without_a_terminal_progress_is_plain_lines_and_nothing_where_nothing_is_missing(scalex: Run) -> None:
    first, again = (scalex("capture", "--spec", "spec.yaml", "--out", "plain") for _ in range(2))
    assert re.fullmatch(r"scalex: capture 60/60, [\d.,]+/s\nscalex: draw 12/12, [\d.,]+/s\n", first.stderr), (
        first.stderr
    )
    assert first.stdout.startswith("plain: 60 samples asked for, 60 captured now")
    assert again.stderr == ""
    assert again.stdout.startswith("plain: 60 samples asked for, 0 captured now")
    assert scalex("steer", "--spec", "spec.yaml", "--out", "plain").stderr.startswith("scalex: "), "an empty line"


def test_progress_without_a_terminal_says_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 30.0, 61.0, 61.0, 90.0, 100.0, 100.0])
    lines = _Lines(lambda: next(now))
    task = lines.add_task("capture", total=1000, note="")
    for done in (100, 200, 300, 1000):
        lines.update(task, completed=done, note="5/s")
    assert capsys.readouterr().err == "scalex: capture 200/1,000, 5/s\nscalex: capture 1,000/1,000, 5/s\n"


def test_a_rate_is_of_what_was_seen_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    """Work that comes in one piece has none: the moment in which it is said is not the time that it took."""
    with progress("sweep", "none") as (show, none):
        show(16, 16)
        none(0, 0)
    assert capsys.readouterr().err == "scalex: sweep 16/16\n"


def test_a_quiet_command_says_its_result_alone(audited: dict[str, object], scalex: Run) -> None:
    loud = scalex("compare", "run", "run", "--out", "loud")
    quiet = scalex("compare", "run", "run", "--out", "quiet", "--quiet")
    assert "scalex: note: " in loud.stderr
    assert (quiet.stderr, quiet.stdout) == ("", loud.stdout.replace("loud", "quiet"))
    assert "scalex: nowhere is no run" in scalex("report", "nowhere", "--quiet").stderr, "mistakes are said"


def test_an_audit_leaves_report_tables_and_manifest(audited: dict[str, object], scalex: Run) -> None:
    assert {(f["analysis"], f["reading"]) for f in audited["findings"]} == {  # type: ignore[attr-defined]
        ("defaults", "text"),
        ("defaults", "picture"),
        ("rates", "picture"),
        ("disagreement", "both"),
        ("sensitivity", "text"),
        ("sensitivity", "picture"),
    }
    again = scalex("capture", "--spec", "spec.yaml", "--out", "later", "--store", "run/store", "--json")
    assert json.loads(again.stdout)["captured"] == 0, "nothing is captured twice"
    assert json.loads(scalex("analyze", "later", "--json").stdout) == audited["findings"], "stages chain"


def test_a_run_is_analysed_and_reported_again_without_the_model(audited: dict[str, object], scalex: Run) -> None:
    findings = json.loads(scalex("analyze", "run", "--analysis", "rates", "--json").stdout)
    assert {f["analysis"] for f in findings} == {"rates"}
    assert json.loads(scalex("analyze", "run", "--json").stdout) == audited["findings"]
    assert scalex("report", "run").stdout.strip() == "run/report.html"
    assert json.loads(scalex("report", "run", "--json").stdout) == {"report": "run/report.html"}


def test_workers_capture_the_same(audited: dict[str, object], scalex: Run) -> None:
    done = scalex("audit", "--spec", "spec.yaml", "--out", "crew", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert "Processor" not in done.stderr, "the libraries' own messages stay out"
    verdicts = [[f["verdict"] for f in found["findings"]] for found in (json.loads(done.stdout), audited)]
    assert verdicts[0] == verdicts[1]


def test_shards_fill_one_store_that_an_audit_finds_full(audited: dict[str, object], scalex: Run) -> None:
    parts = [
        json.loads(
            scalex(
                "capture", "--spec", "spec.yaml", "--store", "shared", "--shard", f"{i}/2", "--out", "x", "--json"
            ).stdout
        )
        for i in (1, 2)
    ]
    whole = json.loads(scalex("capture", "--spec", "spec.yaml", "--store", "shared", "--out", "whole", "--json").stdout)
    assert [part["captured"] for part in parts] == [part["asked"] for part in parts]
    assert (sum(part["asked"] for part in parts), whole["captured"]) == (whole["asked"], 0)
    found = [f["verdict"] for f in json.loads(scalex("analyze", "whole", "--json").stdout)]
    assert found == [f["verdict"] for f in audited["findings"]]  # type: ignore[attr-defined]


def test_a_sweep_names_the_probe_and_an_audit_reads_there(scalex: Run) -> None:
    done = scalex("probe-sweep", "--spec", "spec.yaml", "--concepts", "1", "--json")
    found = json.loads(done.stdout)
    assert {row["reading"] for row in found["best"]} == {"text", "picture"}
    assert len(found["table"]) == 2 * 4 * 5  # readings, steps, blocks
    shown = scalex("probe-sweep", "--spec", "spec.yaml", "--concepts", "1")
    assert re.search(r"^text reading: \S+ tells variants apart best, AUC 1\.000", shown.stdout, re.MULTILINE)
    dry = scalex("audit", "--spec", "spec.yaml", "--probe", "up_blocks.0", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(scalex: Run) -> None:
    done = scalex("audit", "--spec", "spec.yaml", "--out", "dry", "--dry-run", "--json")
    ahead = json.loads(done.stdout)
    assert ahead["samples"] == 2 * 5 * 6, "neutral, and both values in both wordings"
    assert min(ahead["flops"], ahead["bytes"], ahead["seconds"]) > 0
    assert 10e6 < ahead["memory"] < 10e9
    assert scalex("report", "dry").returncode == 2


def test_a_dry_run_counts_what_is_still_missing(audited: dict[str, object], scalex: Run) -> None:
    done = scalex("audit", "--spec", "spec.yaml", "--out", "run", "--seeds", "7", "--dry-run", "--json")
    assert json.loads(done.stdout)["samples"] == 2 * 5


def test_the_store_is_listed_verified_and_cleaned(audited: dict[str, object], scalex: Run) -> None:
    held = json.loads(scalex("store", "ls", "run/store", "--json").stdout)
    assert sorted((row["reading"], row["rows"]) for row in held) == [("picture", 60), ("text", 60)]
    checked = scalex("store", "verify", "run/store", "--json")
    assert checked.returncode == 0
    assert all(row["ok"] for row in json.loads(checked.stdout))
    assert scalex("store", "gc", "run/store").returncode == 0
    said = scalex("capture", "--spec", "spec.yaml", "--out", "run").stdout
    assert ", 0 captured now" in said, "a zero is said like any number"


def test_capture_analyse_and_report_show_pictures_as_an_audit_does(
    audited: dict[str, object], scalex: Run, here: Path
) -> None:
    assert scalex("capture", "--spec", "spec.yaml", "--out", "drawn", "--store", "run/store").returncode == 0
    assert scalex("capture", "--spec", "spec.yaml", "--out", "bare", "--store", "run/store", "--no-pictures").stdout
    for run in ("drawn", "bare"):
        assert scalex("analyze", run).returncode == 0
        assert scalex("report", run).returncode == 0
    pages = {run: (here / run / "report.html").read_text() for run in ("drawn", "bare")}
    assert "data:image/" in pages["drawn"]
    assert "data:image/" not in pages["bare"]


def test_words_that_the_model_does_not_know_are_said(scalex: Run) -> None:
    done = scalex("audit", "--spec", "unknown.yaml", "--out", "unknown", "--dry-run")
    assert "scalex: note: The model's tokenizer does not know these words: 'qzxjk'" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["audit", "/no/model"], r"no folder /no/model here"),
        (["audit", "--spec", "no.yaml"], r"no\.yaml"),
        (["audit", "--spec", "bad.yaml"], r"bad\.yaml.*line 1"),
        (["audit", "--spec", "typo.yaml"], r"typo\.yaml: .*`seed`.*`?seeds"),
        (["audit", "--spec", "vocab.yaml"], r"profesions.*professions"),
        (["audit", "--spec", "spec.yaml", "--device", "cuda:99"], r"cuda"),
        (
            ["audit", "--spec", "spec.yaml", "--lean-direction", "poled"],
            r"`lean_direction` is 'poled', but must be 'own', 'shared', 'lda' or 'pooled'\. Did you mean 'pooled'\?",
        ),
        (["compare", "embedded", "embedded", "--lean-direction", "poled"], r"'poled'.*Did you mean 'pooled'\?"),
        (["audit", "--spec", "spec.yaml", "--probe", "midblock"], r"has no probe 'midblock'.*mid_block"),
        (["capture", "--spec", "spec.yaml", "--shard", "3/2"], r"there is no shard 3 of 2\. Shards are 1/2 to 2/2"),
        (
            ["compare", "embedded", "embedded", "--spec", "spec.yaml", "--batch", "0"],
            r"batch is 0\. A batch has",
        ),
        (["capture", "--spec", "spec.yaml", "--shard", "two"], r"--shard two is not understood\. Write it as 2/8"),
        (["audit", "--spec", "spec.yaml", "--workers", "0", "--out", "none"], r"0 workers.*--workers"),
        (
            ["capture", "--spec", "spec.yaml", "--engine", "rya", "--out", "none"],
            r"no engine 'rya'.*Did you mean 'ray'",
        ),
        (["compare", "embedded", "embedded", "--workers", "0", "--out", "none"], r"0 workers.*--workers"),
        (["audit", "--spec", "spec.yaml", "--dtype", "fp8"], r"precision"),
        (["audit", "--spec", "spec.yaml", "--out", "/proc/no"], r"cannot write to /proc/no.*Choose another folder"),
        (["audit", "notamodel"], r"no diffusion model"),
        (["audit", "--spec", "long.yaml"], r"longer than|tokens"),
        (["analyze", "nothing"], r"nothing is no run: it has no manifest\.json"),
        (["report", "nothing"], r"nothing is no run"),
        (["analyze", "run", "--analysis", "rate"], r"unknown analysis 'rate'.*'rates'"),
        (["store", "ls", "nothing"], r"nothing"),
        (["audit", "--spec", "spec.yaml", "--store", "ftp://x/y"], r"ftp://x/y is not a local folder"),
        (["organism", "check", "nothing"], r"nothing is no organism"),
        (["organism", "train", "no.yaml", "--out", "o"], r"there is no organism spec at no\.yaml"),
        (
            ["organism", "train", "notamodel", "--out", "o"],
            r"organism spec notamodel cannot be read \(Is a directory\)",
        ),
        (["organism", "train", PLANTED, "--out", "o", "--device", "foo"], r"there is no device foo here\. Leave the d"),
        (["organism", "train", PLANTED, "--out", "o", "--device", "cuda:99"], r"there is no device cuda:99 here"),
        (["organism", "train", PLANTED, "--out", "spec.yaml"], r"a file is in the way of the folder spec\.yaml.*--out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: list[str], said: str, audited: dict[str, object], scalex: Run
) -> None:
    assert audited
    done = scalex(*args)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("scalex: ")]
    assert len(lines) == 1, done.stderr
    assert re.search(said, lines[0]), lines[0]


def called(args: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of the command line, called here."""
    monkeypatch.setattr(sys, "argv", ["/some/where/scalex", *args.split()])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("audit --sedes 3", r"no such option: --sedes \(?.*--seeds.*\. See: scalex audit --help"),
        ("audit --seeds many", r"invalid value for '--seeds': .*\. See: scalex audit --help"),
        ("audit --seeds", r"option '--seeds' requires an argument\. See: scalex --help"),
        ("audit one two", r"got unexpected extra argument.*two.*\. See: scalex audit --help"),
        ("report", r"missing argument '(run|RUN)'\. See: scalex report --help"),
        ("adit", r"no such command 'adit'.*\. See: scalex --help"),
        ("store list", r"no such command 'list'.*\. See: scalex store --help"),
    ],
)
def test_a_mistake_of_the_command_line_is_one_line_too(
    args: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(args, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"scalex: {said}\n", err), err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("check run --max-lean 25", r"--max-lean is 25, but a limit is above 0 and at most 1\. Try 0\.25"),
        ("compare run run --seeds 8", r"both are runs, which are used as they are: `seeds` says nothing to them\. .*"),
        ("store ls run", r".*/run is no store\. It is in .*/run/store"),
        ("name run --concept nurse", r"this run has no concept 'nurse'\. Concepts: cook, pilot"),
        ("audit --spec spec.yaml --precision nan", r"`width` \(--precision\) is nan, but should be a finite number"),
        ("audit --spec spec.yaml --dtype fp8", r"`precision` \(--dtype\) is 'fp8', but must be 'fp32'.*"),
        ("probe-sweep --spec spec.yaml --concepts 0", r"invalid value for '--concepts'.*"),
        ("analyze run --analysis descriptors", r"analysis 'descriptors' takes prompts that this run did not capture.*"),
    ],
)
def test_a_mistake_is_called_as_it_was_typed(
    args: str,
    said: str,
    audited: dict[str, object],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audited
    monkeypatch.chdir(here)
    assert called(args, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"scalex: {said}\n", err), err


def test_all_analyses_are_those_that_the_run_has_prompts_for(
    audited: dict[str, object], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    names = set(scalex_package.analyze("run").findings.analysis)
    assert called("analyze run --analysis all --quiet", monkeypatch) == 0
    assert names < set(scalex_package.open_run("run").findings.analysis)


def test_what_a_notebook_shows_is_a_line(audited: dict[str, object], here: Path) -> None:
    audit = scalex_package.open_run(here / "run")
    assert re.fullmatch(r"<Audit of the embedded organism.*: .* on gender; \d+ findings in .*run>", repr(audit))
    store = scalex_package.Store.open(here / "run" / "store", create=False)
    assert re.fullmatch(r"<Store at .*/run/store, only to be read>", repr(store))
    gate = scalex_package.check(here / "run", max_lean=1.0)
    assert re.fullmatch(r"<Gate: passed, none of \d+ limits broken.*>", repr(gate))
    latents = latents_of(audit)["picture"]
    assert re.fullmatch(r"<Latents, picture reading: 10 prompts x 6 seeds x 1 steps x [\d,]+ numbers>", repr(latents))
    job = scalex_package.prepare(spec=here / "spec.yaml", device="cpu")
    assert repr(job).startswith(
        "<Job: 10 prompts, 6 seeds, defaults, rates, disagreement, sensitivity; <stable-diffusion"
    )
    compared = scalex_package.compare(here / "run", here / "run", out=here / "same")
    assert re.fullmatch(r"<Comparison: None of 2 concepts moved on gender; \d+ differences in .*same>", repr(compared))


@pytest.mark.parametrize(
    ("args", "code"), [("--help", 0), ("audit --help", 0), ("", 2), ("organism", 2), ("organism train --help", 0)]
)
def test_help_is_whole(
    args: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(args, monkeypatch) == code
    told = "".join(capsys.readouterr())
    assert told.startswith(f"Usage: {' '.join(['scalex', *args.replace('--help', '').split()])} [OPTIONS]")
    assert "\nOptions:\n" in told


def test_doctor_asks_for_no_package_that_nothing_imports(scalex: Run) -> None:
    findings = json.loads(scalex("doctor", "--json").stdout)
    by_pip = re.findall(r"^    \"(\w+)\": \(", (SOURCE / "doctor.py").read_text(), re.MULTILINE)
    assert by_pip
    assert set(by_pip) <= {found["name"] for found in findings}
    code = "\n".join(p.read_text() for p in SOURCE.rglob("*.py"))
    for name in by_pip:
        assert re.search(rf"(import|from) {name}\b|find_spec\(\"{name}\"\)", code), name


def test_doctor_says_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALEX_CACHE", str(tmp_path))
    monkeypatch.setenv("SCALEX_MEMORY", "0.5")
    found = {one.name: one for one in examine()}
    assert found["cache"].found == str(tmp_path)
    assert found["memory"].found.startswith("arrays up to 0.5 GiB")
    assert found["scalex"].found.startswith(version("scalex-diffusion"))
    monkeypatch.setenv("SCALEX_MEMORY", "much")
    wrong = next(one for one in examine() if one.name == "memory")
    assert (wrong.ok, wrong.found) == (False, "SCALEX_MEMORY is 'much'")
    assert wrong.way_out


def test_every_pip_command_is_quoted_for_the_shell() -> None:
    for path in SOURCE.rglob("*.py"):
        for command in re.findall(r"pip install .{0,40}", path.read_text()):
            assert command.startswith("pip install '"), (path, command)
            assert "scalex-diffusion" not in command, "an index may not have it: name the package that is missing"


def test_every_package_that_an_extra_brings_is_pinned() -> None:
    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = {line.split("==")[0].lower() for line in (root / "constraints.txt").read_text().splitlines()}
    named = {re.split(r"[<>=\[]", package)[0].lower() for packages in extras.values() for package in packages}
    assert named - pinned == {"scalex-diffusion"}


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from scalex import cli

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(cli, "app", lambda **_: warnings.warn("3 samples were damaged", stacklevel=1))
        with pytest.raises(SystemExit, match="0"):
            cli.main()
    assert capsys.readouterr().err == "scalex: warning: 3 samples were damaged\n"
