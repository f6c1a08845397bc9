"""The store: round trips, resume, killed and racing writers, damage and its repair, and the errors a user can meet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalex
from filler import RECIPE, WIDTH, samples, truth
from scalex.errors import ScalexError
from scalex.prompts import sample_key
from scalex.records import Prompt
from scalex.store import Sample, Store, StoreWarning

REPAIR = "Run `scalex store verify --repair`: it drops what is damaged, and the next run captures that again"
ANOTHER = "ame another folder with --store"


def start(*arguments: object, prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """A filler in a process of its own."""
    filler = Path(__file__).with_name("filler.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(scalex.__file__).parents[1])}
    command = [*prefix, sys.executable, str(filler), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)


def filled(path: Path, texts: int = 3, seeds: int = 4, *, batches: int = 1) -> Store:
    store = Store.open(path)
    pairs = samples(texts, seeds)
    for part in range(batches):
        store.write(RECIPE, pairs[part::batches], truth(pairs[part::batches]))
    return store


def prompts(texts: int) -> list[Prompt]:
    return [Prompt(f"a photo of {i}", str(i), "a photo of {}") for i in range(texts)]


def folder_of(store: Store) -> Path:
    return store.path / f"{RECIPE.id}.lance"


def keys_of(store: Store) -> list[str]:
    return store.arrow(RECIPE).to_table(columns=["key"])["key"].to_pylist()


def newest_data_file(store: Store) -> Path:
    return max((folder_of(store) / "data").glob("*.lance"), key=lambda path: path.stat().st_mtime_ns)


# Round trip, resume


def test_what_is_written_is_read_back_in_the_order_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=3, seeds=4)
    ask = [prompts(3)[i] for i in (2, 0, 2, 1)]
    latents = store.read(RECIPE, ask, [3, 1])
    expected = truth([(p.text, seed) for p in ask for seed in (3, 1)]).reshape(4, 2, 2, WIDTH)
    assert np.array_equal(latents.values, expected)
    assert latents.values.dtype == np.float32
    assert (latents.prompts, latents.seeds, latents.steps) == (tuple(ask), (3, 1), RECIPE.keep)
    assert latents.reading == "text"


def test_few_samples_of_many_are_picked_and_not_scanned(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=30, seeds=10, batches=3)
    latents = store.read(RECIPE, prompts(30)[17:18], [9, 2])
    assert np.array_equal(latents.values[0], truth([("a photo of 17", 9), ("a photo of 17", 2)]))


def test_another_process_or_time_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    filled(tmp_path / "s", texts=2, seeds=3)
    again = Store.open(tmp_path / "s")
    asked = [*samples(3, 4)[::-1], *samples(1, 1)]
    assert again.missing(RECIPE, asked) == [pair for pair in samples(3, 4)[::-1] if pair not in samples(2, 3)]
    assert again.missing(replace(RECIPE, guidance=2.0), samples(2, 3)) == samples(2, 3)


batch = st.lists(
    st.tuples(st.sampled_from(["", "a b", "ü'\"%", "\u2028 x"]), st.integers(0, 3)), min_size=1, max_size=9
)


@settings(max_examples=12, deadline=None)
@given(batches=st.lists(batch, min_size=1, max_size=4), asked=batch)
def test_missing_is_what_no_write_named_and_the_first_write_counts(
    batches: list[list[Sample]], asked: list[Sample]
) -> None:
    model: dict[Sample, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        for n, pairs in enumerate(batches):
            values = n * 100 + np.arange(len(pairs), dtype=np.float32)
            before = len(model)
            for pair, value in zip(pairs, values):
                model.setdefault(pair, float(value))
            added = store.write(RECIPE, pairs, np.tile(values[:, None, None], (1, 2, WIDTH)))
            assert added == len(model) - before
        assert store.missing(RECIPE, asked) == [p for p in dict.fromkeys(asked) if p not in model]
        for (text, seed), value in model.items():
            assert (store.read(RECIPE, [Prompt(text, "c", "t")], [seed]).values == value).all()
        assert store.verify()[0].rows == len(model)


def test_many_samples_are_looked_up_quickly(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=50, seeds=1000)
    began = time.process_time()  # of this process alone, whatever else the machine does
    assert len(store.missing(RECIPE, samples(100, 1000))) == 50_000
    assert time.process_time() - began < 5  # seen: 0.4 s


def test_half_precision_is_kept_as_such_and_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    store, recipe = Store.open(tmp_path / "s"), replace(RECIPE, dtype="fp16")
    values = np.linspace(-3, 3, 2 * WIDTH, dtype=np.float32).reshape(1, 2, WIDTH)
    store.write(recipe, [("a", 1)], values)
    assert store.arrow(recipe).schema.field("latent").type.value_type == "halffloat"
    assert np.array_equal(store.read(recipe, [Prompt("a", "a", "{}")], [1]).values[0], values.astype(np.float16))
    with pytest.raises(ScalexError, match="NaN or infinity, the first is that of 'b' with seed 7; none of them"):
        store.write(recipe, [("b", 7)], values * 1e5)


def test_the_samples_are_an_arrow_dataset(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=1, seeds=2)
    table = store.arrow(RECIPE).to_table()
    assert table.column_names == ["key", "prompt", "seed", "latent", "checksum"]
    assert table["key"].to_pylist() == [sample_key(RECIPE, text, seed) for text, seed in samples(1, 2)]
    assert store.arrow(RECIPE).data_storage_version == "2.2"
    with pytest.raises(ScalexError, match="holds nothing of recipe"):
        store.arrow(replace(RECIPE, steps=5))


def test_recipes_are_listed_with_their_fields(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    other = replace(RECIPE, reading="picture", keep=(3,))
    store.write(other, [("a", 0)], np.ones((1, 1, 9), np.float32))
    listed = {entry.recipe: entry.rows for entry in store.recipes()}
    assert listed == {RECIPE: 12, other: 1}
    assert all(entry.bytes > 500 for entry in store.recipes())


# Killed and racing writers


def kill_after(writer: subprocess.Popen[str], lines: int, delay: float) -> list[str]:
    """Let a writer acknowledge so many batches, kill it in the middle of something, and give all it acknowledged."""
    assert writer.stdout is not None
    with writer, writer.stdout:
        heard = [writer.stdout.readline() for _ in range(lines)]
        time.sleep(delay)
        writer.kill()
        heard += writer.stdout.readlines()
    return [key for line in heard if line.endswith("\n") for key in line.split()[1:]]


def test_no_kill_loses_what_was_acknowledged_or_doubles_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    acknowledged: set[str] = set()
    pairs = samples(40, 100)
    for _ in range(3):  # four writers at once, and all are killed
        writers = [start("fill", tmp_path / "s", 40, 100, stride) for stride in (1, -1, 1, -1)]
        for writer in writers:
            acknowledged.update(kill_after(writer, int(rng.integers(1, 20)), rng.uniform(0, 0.05)))
        store = Store.open(tmp_path / "s")
        stored = keys_of(store)
        assert len(stored) == len(set(stored))
        assert acknowledged <= set(stored)
        there = {sample_key(RECIPE, text, seed) for text, seed in set(pairs) - set(store.missing(RECIPE, pairs))}
        assert there == set(stored)
    assert 100 < len(acknowledged) < len(pairs)
    todo = store.missing(RECIPE, pairs)
    store.write(RECIPE, todo, truth(todo))
    assert np.array_equal(store.read(RECIPE, prompts(40), range(100)).values.reshape(-1, 2, WIDTH), truth(pairs))
    assert all(health.ok and health.rows == len(pairs) for health in store.verify())


def test_two_processes_fill_one_store_and_each_sample_is_there_once(tmp_path: Path) -> None:
    writers = [start("fill", tmp_path / "s", 4, 100, stride) for stride in (1, -1)]
    said = [writer.communicate()[0].splitlines() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sum(int(line.split()[0]) for lines in said for line in lines) == 400
    store = Store.open(tmp_path / "s")
    assert sorted(keys_of(store)) == sorted(sample_key(RECIPE, text, seed) for text, seed in samples(4, 100))
    assert store.verify()[0].ok


def test_the_same_batch_from_three_processes_in_the_same_moment_is_stored_once(tmp_path: Path) -> None:
    writers = [start("race", tmp_path / "s", 12, stdin=subprocess.PIPE) for _ in range(3)]
    added = 0
    for _ in range(12):
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        added += sum(int(writer.stdout.readline()) for writer in writers)
    assert [writer.communicate()[0] for writer in writers] == ["", "", ""]
    assert added == 12 * 8
    assert Store.open(tmp_path / "s").verify()[0].rows == 12 * 8


def test_a_write_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    tracing = ("strace", "-f", "-y", "-e", "trace=fsync,write", "-o", str(log))
    if not shutil.which("strace") or subprocess.run([*tracing, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs strace, and leave to use it")
    start("fill", tmp_path / "s", 1, 8, 1, prefix=tracing).communicate()
    calls = log.read_text().splitlines()
    acknowledged = next(i for i, call in enumerate(calls) if "write(1<" in call)
    flushed = {call.partition("<")[2].partition(">")[0] for call in calls[:acknowledged] if "fsync(" in call}
    written = [path for path in (tmp_path / "s").rglob("*") if path.suffix in {".lance", ".manifest"} or path.is_dir()]
    assert {str(path) for path in written if path.name not in {"_transactions", "aside"}} <= flushed


def test_a_forked_process_is_refused(tmp_path: Path) -> None:
    said, _ = start("fork", tmp_path / "s").communicate()
    assert said == (
        'the store cannot be used in a process forked from one that used it. Start processes with the "spawn" method\n'
    )


# Many small commits, and what they leave


def test_small_commits_are_merged_as_they_accumulate(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    for pair in samples(5, 20):
        store.write(RECIPE, [pair], truth([pair]))
    assert len(store.arrow(RECIPE).get_fragments()) < 40
    assert np.array_equal(store.read(RECIPE, prompts(5), range(20)).values.reshape(-1, 2, WIDTH), truth(samples(5, 20)))


def test_gc_removes_what_nobody_can_need_and_nothing_else(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", batches=4)
    data = folder_of(store) / "data"
    reader = store.arrow(RECIPE)
    on_its_way = data / "of_another_writer.lance"
    on_its_way.write_bytes(newest_data_file(store).read_bytes())
    old, young = data / ".tmpOld123", folder_of(store) / "_versions" / "18446744073709551600.manifest#1"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    swept = store.gc()
    assert (swept.files, swept.versions, swept.bytes) == (1, 0, 4)
    assert (old.exists(), young.exists(), on_its_way.exists()) == (False, True, True)
    assert len(store.arrow(RECIPE).get_fragments()) == 1
    assert reader.to_table().num_rows == 12  # one that started before

    swept = store.gc(timedelta(0))
    assert swept.versions >= 4
    assert swept.bytes > 1000
    assert on_its_way.exists()
    assert len(list(data.glob("*.lance"))) == 2
    assert store.verify()[0].rows == 12


# Damage


def test_a_torn_manifest_is_set_aside_and_only_its_batch_is_missing(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=3, seeds=4)
    late = samples(4, 4)[12:]
    store.write(RECIPE, late, truth(late))
    head = min((folder_of(store) / "_versions").glob("*.manifest"))
    head.write_bytes(b"")
    again = Store.open(tmp_path / "s")
    with pytest.warns(StoreWarning, match=r"version 3 was cut off while being written.*the version before it is used"):
        assert again.missing(RECIPE, samples(4, 4)) == late
    assert len(list((again.path / "aside").iterdir())) == 1
    assert again.write(RECIPE, late, truth(late)) == 4
    assert again.verify()[0].ok
    assert again.gc(timedelta(0)).versions >= 1
    assert again.missing(RECIPE, samples(4, 4)) == []


@pytest.mark.parametrize("keep", [0, 500])
def test_a_manifest_cut_anywhere_is_set_aside_by_verify_too(tmp_path: Path, keep: int) -> None:
    store = filled(tmp_path / "s", batches=2)
    head = min((folder_of(store) / "_versions").glob("*.manifest"))
    head.write_bytes(head.read_bytes()[:keep])
    with pytest.warns(StoreWarning, match="cut off"):
        health = Store.open(tmp_path / "s", create=False).verify()
    assert [(h.rows, h.ok) for h in health] == [(6, True)]


def test_samples_whose_file_was_cut_off_are_captured_again(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", texts=3, seeds=4)
    late = samples(4, 4)[12:]
    store.write(RECIPE, late, truth(late))
    newest_data_file(store).write_bytes(b"")
    looking = Store.open(tmp_path / "s", create=False)
    assert looking.verify()[0].unreadable == 4
    with pytest.raises(ScalexError, match="cannot be read") as caught:
        looking.read(RECIPE, prompts(4), range(4))
    assert caught.value.way_out == REPAIR
    filling = Store.open(tmp_path / "s")
    with pytest.warns(StoreWarning, match="4 samples were cut off while being written; they will be captured again"):
        assert filling.missing(RECIPE, samples(4, 4)) == late
    filling.write(RECIPE, late, truth(late))
    assert filling.verify()[0].ok


def plant_text(store: Store) -> None:
    store.arrow(RECIPE).update({"prompt": "'another text'"}, where="seed = 1 AND prompt = 'a photo of 2'")


def plant_latent(store: Store) -> None:
    file = newest_data_file(store)
    content = file.read_bytes()
    at = content.index(truth([("a photo of 2", 1)]).tobytes())
    file.write_bytes(content[: at + 2] + bytes([content[at + 2] ^ 4]) + content[at + 3 :])


def plant_copy(store: Store) -> None:
    copy = store.arrow(RECIPE).to_table(filter="seed = 1 AND prompt = 'a photo of 2'")
    lance.write_dataset(copy, str(folder_of(store)), mode="append")


@pytest.mark.parametrize(
    ("plant", "fault", "rows"),
    [(plant_text, "mismatched", 12), (plant_latent, "damaged", 12), (plant_copy, "duplicates", 13)],
)
def test_verify_finds_a_tampered_row_and_repairs_it(tmp_path: Path, plant: Any, fault: str, rows: int) -> None:
    store = filled(tmp_path / "s")
    assert store.verify()[0].ok
    plant(store)
    found = Store.open(tmp_path / "s").verify()[0]
    faults = {
        name: getattr(found, name) for name in ("mismatched", "damaged", "non_finite", "duplicates", "unreadable")
    }
    assert {name: n for name, n in faults.items() if n} == {fault: 1}
    assert (found.rows, found.ok, found.dropped) == (rows, False, 0)
    assert Store.open(tmp_path / "s").verify(repair=True)[0].dropped == rows - 11
    lost = [("a photo of 2", 1)]
    assert store.missing(RECIPE, samples(3, 4)) == lost
    store.write(RECIPE, lost, truth(lost))
    assert store.verify()[0].ok
    assert np.array_equal(store.read(RECIPE, prompts(3), range(4)).values.reshape(-1, 2, WIDTH), truth(samples(3, 4)))


def test_a_changed_latent_never_reaches_an_analysis(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    plant_latent(store)
    with pytest.raises(ScalexError, match="are not what was written"):
        Store.open(tmp_path / "s").read(RECIPE, prompts(3), range(4))


def test_verify_names_a_recipe_that_was_changed_or_lost(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    sheet = store.path / f"{RECIPE.id}.json"
    sheet.write_text(sheet.read_text().replace("DDIM", "PNDM"))
    assert "was changed: its fields give" in store.verify()[0].problem
    with pytest.raises(ScalexError, match="the next capture with this recipe writes it again"):
        store.recipes()
    sheet.unlink()
    assert "cannot be read" in store.verify()[0].problem
    store.write(RECIPE, samples(1, 1), truth(samples(1, 1)))
    assert store.verify()[0].ok


# What a user can get wrong


def test_a_latent_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    values = truth(samples(2, 2))
    values[2, 1, 3] = np.nan
    with pytest.raises(ScalexError) as caught:
        store.write(RECIPE, samples(2, 2), values)
    assert caught.value.wrong == (
        "1 of 4 latents hold NaN or infinity, the first is that of 'a photo of 1' with seed 0; none of them was stored"
    )
    assert store.missing(RECIPE, samples(2, 2)) == samples(2, 2)


def test_values_of_another_shape_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"values \(4, 2, 6\) do not fit 3 samples of 2 steps"):
        Store.open(tmp_path / "s").write(RECIPE, samples(1, 3), truth(samples(1, 4)))
    assert Store.open(tmp_path / "s").write(RECIPE, [], truth([])) == 0


def test_reading_what_was_never_captured_says_how_much_is_missing(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    with pytest.raises(ScalexError, match=r"^4 of 16 samples are missing in the store .*scalex capture"):
        store.read(RECIPE, prompts(4), range(4))
    with pytest.raises(ScalexError, match=r"^2 of 2 samples are missing"):
        store.read(replace(RECIPE, steps=9), prompts(2), [0])


def test_a_store_of_an_unknown_format_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    declared = store.path / "format.json"
    assert json.loads(declared.read_text()) == {"name": "scalex-store", "version": 1}
    for text, said in [
        ('{"name": "scalex-store", "version": 7}', "has format version 7, and this scalex knows version 1"),
        ('{"name": "other", "version": 1}', "declares another format"),
        ("{", "is not valid JSON"),
    ]:
        declared.write_text(text)
        with pytest.raises(ScalexError, match=said):
            Store.open(store.path)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"is no store\. Capture into it first"):
        Store.open(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ScalexError, match=f"holds other files and no store. N{ANOTHER}"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    for path in (tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "store"):
        with pytest.raises(ScalexError, match=f"a file is in the way of the folder {path}. Move it, or n{ANOTHER}"):
            Store.open(path)
    with pytest.raises(
        ScalexError, match=r"ftp://host/store is not a local folder\. Name a folder, or a store as s3://"
    ):
        Store.open("ftp://host/store")


def test_a_folder_without_write_permission_is_one_clear_line(guarded: Path) -> None:
    for path in (guarded, guarded / "store"):
        with pytest.raises(
            ScalexError, match=f"cannot write to {path}. Give yourself write permission there, or n{ANOTHER}"
        ):
            Store.open(path)


def test_a_store_that_may_not_be_written_to_can_still_be_read(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    store = filled(folder / "s")
    os.system(f"chmod -R a+rX,a-w {folder}")
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        assert Store.open(store.path, create=False).read(RECIPE, prompts(3), range(4)).values.shape == (3, 4, 2, WIDTH)
        with pytest.raises(ScalexError, match="cannot write to"):
            store.write(RECIPE, [("b 1", 1)], truth([("b 1", 1)]))
    finally:
        if root:
            os.seteuid(0)
        os.system(f"chmod -R u+w {folder}")
        shutil.rmtree(folder)


def test_a_full_disk_keeps_what_is_written_and_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = f'mount -t tmpfs -o size=6m tmpfs {small} && exec "$@"'
    contained = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounting, "sh")
    if not shutil.which("unshare") or subprocess.run([*contained, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs leave to mount a small file system")
    said, _ = start("overfill", small / "s", prefix=contained).communicate()
    message, kept = said.splitlines()
    assert int(kept) >= 64
    assert message == (
        f"disk full at {small / 's'}. Free space and run the same command again: {kept} samples are kept"
    )
