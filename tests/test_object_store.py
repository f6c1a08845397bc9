"""A store in an object store: a real S3 server of this machine, racing and killed writers, and what it may refuse."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import scalex
from crew import PLAN, PROMPTS, SEEDS, TOTAL, all_there
from filler import RECIPE, WIDTH, samples, truth
from scalex.engine import engine, fill
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.prompts import sample_key
from scalex.records import Prompt
from scalex.store import Store

moto = pytest.importorskip("moto.server")
pytest.importorskip("obstore")

SPEC = """
seeds: 4
templates: ["a photo of a {}"]
concepts: [cook, pilot]
attributes: {gender: preset}
resamples: 200
permutations: 199
analyses: [defaults]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The endpoint of an S3 server with a bucket."""
    serving = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    asked = urllib.request.Request(f"{endpoint}/latents", method="PUT")
    urllib.request.urlopen(asked).close()
    yield endpoint
    serving.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of an empty place in it; whoever asks finds the way in the environment, as usual."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": "whose",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://latents/{tmp_path.name}"


def refuse(server: str, after: str) -> None:
    """From so many requests on, the server wants to know who asks; "inf" for never."""
    asked = urllib.request.Request(
        f"{server}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(asked).close()


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(scalex.__file__).parents[1])}
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment)


def keys_of(store: Store) -> list[str]:
    return store.arrow(RECIPE).to_table(columns=["key"])["key"].to_pylist()


def test_what_is_written_is_read_back_checked_and_cleaned(bucket: str) -> None:
    store = Store.open(bucket + "/")
    assert store.address == bucket
    assert store.recipes() == []
    assert store.missing(RECIPE, samples(2, 2)) == samples(2, 2)
    for pair in samples(3, 12):
        assert store.write(RECIPE, [pair], truth([pair])) == 1
    assert store.write(RECIPE, samples(3, 12), truth(samples(3, 12))) == 0
    looking = Store.open(bucket, create=False)
    assert looking.missing(RECIPE, samples(4, 12)) == samples(4, 12)[36:]
    prompts = [Prompt(f"a photo of {i}", str(i), "a photo of {}") for i in range(3)]
    values = looking.read(RECIPE, prompts, range(12)).values
    assert np.array_equal(values.reshape(-1, 2, WIDTH), truth(samples(3, 12)))
    assert store.arrow(RECIPE).data_storage_version == "2.2"
    assert len(store.arrow(RECIPE).get_fragments()) < 36  # merged as they accumulate
    before = store.recipes()[0]
    assert (before.recipe, before.rows) == (RECIPE, 36)
    assert store.gc().versions == 0  # others may still read them
    assert store.gc(timedelta(0)).versions > 36
    assert store.recipes()[0].bytes < before.bytes / 2
    assert [(h.rows, h.ok) for h in store.verify()] == [(36, True)]


def test_a_damaged_row_is_found_and_dropped(bucket: str) -> None:
    store = Store.open(bucket)
    store.write(RECIPE, samples(3, 4), truth(samples(3, 4)))
    store.arrow(RECIPE).update({"prompt": "'another text'"}, where="seed = 1 AND prompt = 'a photo of 2'")
    assert [(h.rows, h.mismatched) for h in store.verify()] == [(12, 1)]
    assert store.verify(repair=True)[0].dropped == 1
    assert store.missing(RECIPE, samples(3, 4)) == [("a photo of 2", 1)]
    assert store.verify()[0].ok


def test_processes_that_begin_a_table_at_once_and_write_the_same_store_it_once(bucket: str) -> None:
    Store.open(bucket)
    writers = [start("filler.py", "race", bucket, 8) for _ in range(3)]
    added = 0
    for _ in range(8):
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        added += sum(int(writer.stdout.readline()) for writer in writers if writer.stdout)
    assert [writer.communicate()[0] for writer in writers] == ["", "", ""]
    store = Store.open(bucket)
    assert added == 8 * 8
    assert sorted(keys_of(store)) == sorted(sample_key(RECIPE, text, seed) for text, seed in samples(8, 8))
    assert store.verify()[0].ok


def test_two_workers_fill_it_as_one_process_fills_a_folder(bucket: str, ddim: Model, tmp_path: Path) -> None:
    store = Store.open(bucket)
    with engine(2) as fill_it:
        filled = fill_it(store, ddim, PROMPTS, SEEDS[:4], PLAN)
    here = Store.open(tmp_path / "here")
    fill(here, ddim, PROMPTS, SEEDS[:4], PLAN)
    for recipe in filled.recipes.values():
        expected = here.read(recipe, PROMPTS, SEEDS[:4]).values
        np.testing.assert_allclose(store.read(recipe, PROMPTS, SEEDS[:4]).values, expected, rtol=1e-5, atol=1e-5)


def test_a_kill_loses_nothing_that_was_written(bucket: str, ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    with start("crew.py", "processes", tiny_folder(), bucket) as killed:
        assert killed.stdout is not None
        while int(killed.stdout.readline()) < 6:
            pass
        killed.kill()
    store = Store.open(bucket)
    kept = min(row.rows for row in store.recipes())
    assert 6 <= kept < TOTAL
    filled = fill(store, ddim, PROMPTS, SEEDS, PLAN)
    assert TOTAL - filled.captured >= kept
    assert all_there(store, filled)
    assert all(health.ok and health.rows == TOTAL for health in store.verify())


def test_an_audit_keeps_its_latents_there(bucket: str, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(scalex.__file__).parents[1])}
        command = [sys.executable, "-c", "from scalex.cli import main; main()", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    (tmp_path / "spec.yaml").write_text(SPEC)
    planned = run("audit", "--spec", "spec.yaml", "--store", bucket, "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["samples"] == 24
    audited = run("audit", "--spec", "spec.yaml", "--out", "run", "--store", bucket, "--json")
    assert audited.returncode == 0, audited.stderr
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["store"] == bucket
    again = run("analyze", "run", "--json")
    assert json.loads(again.stdout) == json.loads(audited.stdout)["findings"]
    held = json.loads(run("store", "ls", bucket, "--json").stdout)
    assert [entry["rows"] for entry in held] == [24, 24]
    assert all(health["ok"] for health in json.loads(run("store", "verify", bucket, "--json").stdout))
    assert run("store", "gc", bucket).returncode == 0
    lost = run("audit", "--spec", "spec.yaml", "--out", "other", "--store", "s3://nowhere/latents")
    assert (lost.returncode, lost.stderr.strip().splitlines()[-1]) == (
        2,
        "scalex: there is no bucket s3://nowhere. Make it, or name another with --store",
    )


def test_a_refused_write_is_one_line_and_keeps_what_was_written(bucket: str, server: str, ddim: Model) -> None:
    store = Store.open(bucket)
    fill(store, ddim, PROMPTS[:1], SEEDS[:4], PLAN)
    refuse(server, "0")
    try:
        with pytest.raises(ScalexError, match=f"{bucket} refuses access.* Check AWS_ACCESS_KEY_ID"):
            Store.open(bucket, create=False)
        with pytest.raises(ScalexError, match=f"{bucket} refuses access"):
            store.write(RECIPE, samples(1, 1), truth(samples(1, 1)))
        with pytest.raises(ScalexError, match=f"{bucket} refuses access"), engine(1, "processes") as fill_it:
            fill_it(store, ddim, PROMPTS, SEEDS, PLAN)
    finally:
        refuse(server, "inf")
    assert fill(store, ddim, PROMPTS[:1], SEEDS[:4], PLAN).captured == 0
    assert all(health.ok for health in store.verify())


def test_what_is_not_there_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScalexError, match=r"there is no bucket s3://nowhere\. Make it, or name another with --store"):
        Store.open("s3://nowhere/latents")
    with pytest.raises(ScalexError, match=f"{bucket} is no store. Capture into it first"):
        Store.open(bucket, create=False)
    with pytest.raises(ScalexError, match=r"s3:// names no bucket\. Write it as s3://BUCKET/FOLDER"):
        Store.open("s3://")
    with pytest.raises(ScalexError, match=f"the store {bucket} is not a local folder"):
        Store.open(bucket).path  # noqa: B018
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ScalexError, match=f"{bucket} does not answer. Check the network"):
            Store.open(bucket)
        assert time.monotonic() - began < 20  # seen: 8 s; with the library's own patience minutes


def test_another_program_s_objects_are_left_alone(bucket: str, server: str) -> None:
    name = f"{server}/latents/{bucket.rpartition('/')[2]}/thesis.txt"
    urllib.request.urlopen(urllib.request.Request(name, b"mine", method="PUT")).close()
    with pytest.raises(ScalexError, match=f"the folder {bucket} holds other files and no store"):
        Store.open(bucket)


def test_without_obstore_the_extra_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ScalexError, match=r"needs obstore\. Run: pip install 'obstore>=0\.9'"):
        Store.open(bucket)
