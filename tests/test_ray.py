"""The engine of a Ray cluster: real actors, killed for real; nothing is lost, and nothing is open to others."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scalex
from crew import PLAN, PROMPTS, SEEDS, TOTAL, all_there, damaged
from scalex.engine import engine, engines, fill
from scalex.engine.ray import Rays, connected
from scalex.errors import ScalexError
from scalex.models import Model, load_model
from scalex.store import Store

pytestmark = [
    pytest.mark.skipif(not find_spec("ray"), reason="needs the extra ray"),
    pytest.mark.filterwarnings("ignore:no worker has begun for 60 s"),  # as on a machine that does much else
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a Ray of our own keeps its files, while it runs. Its paths must be short."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(tempfile, "tempdir", place)
        with connected() as own:
            assert own
            patch.undo()
            yield next(Path(place).iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def crew(folder: Path) -> Iterator[Rays]:
    with Rays(1) as one:
        yield one


def actors(of: int | None = None) -> list[int]:
    """The processes of actors that descend from a process, by default this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::_Actor") and of in (None, *_line(int(entry.name))):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found if of else [pid for pid in found if os.getpid() in _line(pid)]


def _line(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def driver(model: Path, store: Path, **options: Any) -> subprocess.Popen[str]:
    """The engine in a process of its own, which begins a Ray of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(scalex.__file__).parents[1])}
    command = [sys.executable, str(Path(__file__).with_name("crew.py")), "ray", str(model), str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)


def test_actors_store_what_one_process_stores_to_the_last_bit(tmp_path: Path, ddim: Model, folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = Store.open(tmp_path / "here")
        alone = fill(here, ddim, PROMPTS, SEEDS, PLAN)
    finally:
        torch.set_num_threads(threads)
    there = Store.open(tmp_path / "there")
    told: list[tuple[int, int]] = []
    with engine(2, "ray") as fill_there:
        filled = fill_there(there, ddim, PROMPTS, SEEDS, PLAN, lambda *done: told.append(done))
        again = fill_there(there, ddim, PROMPTS, (*SEEDS, 12), PLAN)
    assert (filled.captured, filled.full, filled.stopped) == (TOTAL, alone.full, alone.stopped)
    assert (again.captured, again.asked) == (len(PROMPTS), TOTAL + len(PROMPTS))
    assert told[0] == (0, TOTAL)
    assert (2, TOTAL) in told  # by batches
    assert told[-1] == (TOTAL, TOTAL)
    for reading, recipe in filled.recipes.items():
        expected = here.read(alone.recipes[reading], PROMPTS, SEEDS).values
        np.testing.assert_array_equal(there.read(recipe, PROMPTS, SEEDS).values, expected)


def test_an_actor_that_is_killed_is_replaced_and_its_unit_done_again(store: Store, ddim: Model, crew: Rays) -> None:
    killed: list[object] = []

    def kill_once(done: int, total: int) -> None:
        if done >= 4 and not killed:
            killed.append(crew._crew[0])
            for pid in actors():  # those of an earlier test may be on their way out
                os.kill(pid, signal.SIGKILL)

    filled = crew.fill(store, ddim, PROMPTS, SEEDS, PLAN, kill_once)
    assert killed
    assert crew._crew[0] is not killed[0]
    assert all_there(store, filled)
    assert [row.rows for row in store.recipes()] == [TOTAL, TOTAL]


def test_a_unit_that_actors_die_of_is_set_aside_and_the_rest_is_done(
    store: Store, ddim: Model, crew: Rays, capfd: pytest.CaptureFixture[str]
) -> None:
    poison = PROMPTS[0].text

    def kill(done: int, total: int) -> None:
        unit = crew._crew[0].unit if crew._crew else None
        if unit and unit.samples[0] == (poison, 0):
            for pid in actors():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ScalexError) as caught:
        crew.fill(store, ddim, PROMPTS[:2], SEEDS, PLAN, kill)
    said = str(caught.value)
    assert "of 24 samples could not be captured, all others are kept" in said
    assert f"8 samples from {poison!r} on: 3 workers died of it: its worker process has died. Mend that" in said
    filled = crew.fill(store, ddim, PROMPTS, SEEDS, PLAN)  # nobody kills now
    assert all_there(store, filled)
    assert capfd.readouterr().out == ""  # which may be JSON


def test_a_sample_that_cannot_be_captured_is_named_and_all_others_are_kept(
    store: Store, tiny_folder: Callable[..., Path], tmp_path: Path, crew: Rays
) -> None:
    model = load_model(damaged(tiny_folder(), tmp_path / "damaged"), device="cpu")
    with pytest.raises(ScalexError) as caught:
        crew.fill(store, model, PROMPTS, SEEDS[:2], PLAN)
    assert str(caught.value).startswith(
        "2 of 8 samples could not be captured, all others are kept: prompt 'a photo of a pilot', seed 0 (and 1 more): "
        "the text reading of prompt 'a photo of a pilot', seed 0, is not finite in fp32"
    )
    assert [row.rows for row in store.recipes()] == [6, 6]


def test_a_store_or_a_model_that_actors_cannot_open_is_one_line(
    store: Store, ddim: Model, crew: Rays, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    class Elsewhere(Store):
        address = str(tmp_path / "of this node alone")

    away = Elsewhere(store.place, True)
    with pytest.raises(ScalexError, match=r"of this node alone is no store\. .*every worker must reach the model"):
        crew.fill(away, ddim, PROMPTS, SEEDS, PLAN)
    Store.open(Elsewhere.address)
    with pytest.raises(ScalexError, match="8 of 8 samples were captured, but into another store of the same name"):
        crew.fill(away, ddim, PROMPTS, SEEDS[:2], PLAN)
    gone = load_model(damaged(tiny_folder(), tmp_path / "gone"), device="cpu")
    (tmp_path / "gone").rename(tmp_path / "moved")
    with pytest.raises(ScalexError, match=r"gone.* every worker must reach the model and the store"):
        crew.fill(store, gone, PROMPTS, SEEDS, PLAN)


def test_nothing_of_a_ray_of_our_own_is_open_to_others(folder: Path) -> None:
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700  # whatever lies in it, nobody else gets there
    inside = [path for path in folder.rglob("*") if not path.is_dir() and not path.is_symlink()]
    assert any(path.is_socket() for path in inside)
    assert [path for path in inside if path.exists() and path.stat().st_mode & 0o077] == []
    assert [path for path in inside if path.is_file() and token in path.read_bytes()] == []
    if os.geteuid() == 0:
        look = subprocess.run(["ls", str(folder)], user=65534, capture_output=True, text=True, check=False)
        assert "Permission denied" in look.stderr


def test_a_driver_that_is_killed_leaves_no_actor_and_loses_nothing(
    tiny_folder: Callable[..., Path], ddim: Model, tmp_path: Path
) -> None:
    with driver(tiny_folder(), tmp_path / "s") as killed:
        assert killed.stdout is not None
        while int(killed.stdout.readline()) < 6:
            pass
        crew = actors(killed.pid)
        killed.kill()
    assert crew
    store = Store.open(tmp_path / "s")
    until = time.monotonic() + 60
    while any((Path("/proc") / str(pid)).exists() for pid in crew):
        assert time.monotonic() < until, "actors outlive their driver"
        time.sleep(0.1)
    kept = min(row.rows for row in store.recipes())
    assert kept >= 6
    filled = fill(store, ddim, PROMPTS, SEEDS, PLAN)
    assert filled.captured == TOTAL - kept
    assert all_there(store, filled)
    assert all(health.ok and health.rows == TOTAL for health in store.verify())


def test_an_interruption_ends_the_actors_and_keeps_what_was_written(
    tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    with driver(tiny_folder(), tmp_path / "s", start_new_session=True, stderr=subprocess.PIPE) as one:
        assert one.stdout is not None
        while int(one.stdout.readline()) < 4:
            pass
        os.killpg(one.pid, signal.SIGINT)  # as a terminal does
        said, noise = one.communicate()
    last = said.splitlines()[-1]
    assert last.startswith("interrupted: ")
    assert last.endswith(
        f" of {TOTAL} samples were captured and are kept. Run the same command again to go on from there"
    )
    assert noise == ""
    assert min(row.rows for row in Store.open(tmp_path / "s").recipes()) >= 4


def test_an_address_that_does_not_answer_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ScalexError, match=f"no Ray answers at {address}: Connection refused. Name"):
            Rays(address=address)
    with socket.create_server(("127.0.0.1", 0)) as web:
        answering = threading.Thread(target=_answer, args=(web,))
        answering.start()
        with pytest.raises(ScalexError, match=r"no Ray answers at .*: another program listens there"):
            Rays(address=f"127.0.0.1:{web.getsockname()[1]}")
        answering.join()
    with pytest.raises(ScalexError, match="no Ray answers at head: it is not HOST:PORT"):
        Rays(address="head")


def _answer(web: socket.socket) -> None:
    """As a web server answers whom it does not understand."""
    with web.accept()[0] as caller:
        caller.recv(99)
        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = r"the engine ray needs Ray\. Run: pip install 'ray\[client\]>=2\.60'"
    with pytest.raises(ScalexError, match=said), engine(name="ray"):
        pass


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((None, "rya"), "there is no engine 'rya'. Did you mean 'ray'?"),
        ((None, "slurm"), "there is no engine 'slurm'. Engines: local, processes, ray"),
        ((2, "local"), "the local engine can't have 2 workers. Leave out --engine, or name processes"),
        ((None, "local", "head:6379"), "the local engine has no address. Leave out --engine, or name ray"),
        ((2, "processes", "head:6379"), "the engine of processes has no address. Leave out --engine, or name ray"),
        ((0, "ray"), "0 workers can't do anything. Name at least one with --workers"),
    ],
)
def test_an_engine_that_cannot_be_had_is_one_line(asked: tuple[Any, ...], said: str) -> None:
    assert engines() == ["local", "processes", "ray"]
    with pytest.raises(ScalexError) as caught, engine(*asked):
        pass
    assert str(caught.value) == said
