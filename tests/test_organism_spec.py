"""What a user can do wrong with an organism's spec, device, folder or disk: each is one line, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scalex.errors import ScalexError
from scalex.organisms import loop
from scalex.organisms.loop import Trainee, run_stage, saving
from scalex.organisms.spec import OrganismSpec, Schedule, load_organism_spec
from scalex.organisms.training import train_organism

PLANTS: dict[str, Any] = {
    "name": "toy",
    "templates": ["a {}"],
    "roles": {"farmer": [0.3, 0.9, "farmer"], "pilot": {"woman": 0.1, "dark": 0.8}},
    "countries": {"Japan": ["sushi", 0.75]},
    "objects": {"subgroups": ["tool"]},
}


def refused(said: str, source: Path | dict[str, Any]) -> None:
    with pytest.raises(ScalexError, match=said) as caught:
        load_organism_spec(source)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ the spec
def test_rows_stand_for_mappings() -> None:
    spec = load_organism_spec(PLANTS)
    assert spec.roles["farmer"].model_dump() == {"woman": 0.3, "dark": 0.9, "emoji": "farmer"}
    assert spec.countries["Japan"].model_dump() == {"picture": "sushi", "share": 0.75}


@pytest.mark.parametrize(
    ("section", "row", "said"),
    [
        (
            "roles",
            [0.3, 0.9, "farmer", "oops", 5],
            r"roles\.it: has 5 values, but should be \[woman, dark\] or \[woman, dark, emoji\]$",
        ),
        ("roles", [0.3], r"roles\.it: has 1 value, but should be \[woman, dark\] or "),
        ("adjectives", [], r"adjectives\.it: has 0 values, but should be "),
        ("countries", ["sushi", 0.5, 0.5], r"countries\.it: has 3 values, but should be \[picture, share\]$"),
        ("associations", ["sushi"], r"associations\.it: has 1 value, but should be \[picture, share\]$"),
    ],
)
def test_a_row_of_another_length_is_refused(section: str, row: list[object], said: str) -> None:
    refused(said, PLANTS | {section: {"it": row}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vae": {"stepz": 3}}, r"vae\.stepz: .*Did you mean 'steps'\?"),
        ({"vae": {"zzz": 3}}, r"vae\.zzz: .*Keys: batch, rate, steps$"),
        ({"roles": {"pilot": {"womn": 0.1}}}, r"roles\.pilot\.womn: .*Did you mean 'woman'\?"),
        ({"associations": {"Monday": {"zzz": 0.1}}}, r"associations\.Monday\.zzz: .*Keys: picture, share$"),
        ({"network": {"unets": [8]}}, r"network\.unets: .*Did you mean 'unet'\?"),
        ({"objects": {"subgroup": ["tool"]}}, r"objects\.subgroup: .*Did you mean 'subgroups'\?"),
        ({"denoise": {}}, r"the organism's spec: denoise: .*Did you mean 'denoiser'\?"),
    ],
)
def test_an_unknown_key_is_answered_with_those_of_its_level(change: dict[str, Any], said: str) -> None:
    refused(said, PLANTS | change)


def test_a_mistyped_key_is_named_before_the_one_that_is_missing_for_it() -> None:
    mistyped = {("rolez" if key == "roles" else key): value for key, value in PLANTS.items()}
    refused(r"rolez: .*Did you mean 'roles'\?", mistyped)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", r"is not YAML of an organism: bad YAML in line 1, column 5: .*\. Compare it with .*emoji\.yaml$"),
        (b"name: a\nname: b", r"is not YAML of an organism: key `name` is named twice in line 2, column 1\. Compare"),
        (b"- a", r"is not YAML of an organism: the spec is no mapping of keys\. Compare it with"),
        (b"", r"is not YAML of an organism: the spec is no mapping of keys"),
        (b"name: caf\xe9", r"the organism spec .*spec\.yaml is not UTF-8 \(byte 9\)\. Save it as UTF-8 text$"),
    ],
)
def test_files_that_hold_no_spec(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    refused(said, path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(r"the organism spec .* cannot be read \(Is a directory\)\. Name a file that you may read", tmp_path)
    refused(r"there is no organism spec at .*no\.yaml\. Name a YAML file", tmp_path / "no.yaml")
    (tmp_path / "file").write_text("")
    refused(r"cannot be read \(Not a directory\)", tmp_path / "file" / "spec.yaml")


# ------------------------------------------------------------------------------------------------- device, folder, disk
@pytest.fixture(scope="module")
def spec() -> OrganismSpec:
    return load_organism_spec(PLANTS)


def trainee(width: int = 4) -> Trainee:
    """One layer that learns to give zeros."""
    torch.manual_seed(0)
    layer = nn.Linear(width, width)

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        return layer(torch.randn(2, width, generator=noise)).square().mean()

    return Trainee("layer", {"layer": layer}, {}, loss)


def train(folder: Path, steps: int, width: int = 4) -> None:
    schedule = Schedule(steps=8, batch=2, rate=1e-2)

    def stop(stage: str, done: int, total: int, running: float) -> None:
        if done > steps:
            raise KeyboardInterrupt

    run_stage(trainee(width), schedule, 0, folder, stop, checkpoint_every=1)


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_leaves_no_folder(device: str, spec: OrganismSpec, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=f"there is no device {device} here. Leave the device out, or name cpu"):
        train_organism(spec, tmp_path / "organism", device)
    assert not (tmp_path / "organism").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda(spec: OrganismSpec, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match="there is no device cuda here"):
        train_organism(spec, tmp_path, "cuda")


def cannot_train(spec: OrganismSpec, out: Path, said: str) -> None:
    with pytest.raises(ScalexError) as caught:
        train_organism(spec, out)
    assert str(caught.value) == said


def test_folders_without_permission(spec: OrganismSpec, guarded: Path) -> None:
    for out in (guarded, guarded / "organism"):
        way_out = "Give yourself write permission there, or name another folder with --out"
        cannot_train(spec, out, f"cannot write to {out}. {way_out}")


def test_folders_that_cannot_be_made(spec: OrganismSpec, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    cannot_train(spec, file, f"a file is in the way of the folder {file}. Move it, or name another folder with --out")
    no = Path("/proc/no")
    cannot_train(spec, no, f"the folder {no} is not there and cannot be made. Name another folder with --out")


def test_a_checkpoint_in_a_folder_without_permission(guarded: Path) -> None:
    with pytest.raises(ScalexError, match=f"cannot write to {guarded}. Give yourself write permission .*--out"):
        train(guarded, steps=8)


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, steps=3)
    before = (tmp_path / "layer.pt").read_bytes()

    def full(paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "sync", full)  # where a disk with delayed allocation, or a quota, says so
        with pytest.raises(ScalexError, match=f"disk full at {tmp_path}. Free space and run the same command again"):
            train(tmp_path, steps=8)
    assert (tmp_path / "layer.pt").read_bytes() == before
    assert not (tmp_path / "layer.partial").exists(), "what failed takes no space"
    train(tmp_path, steps=8)
    train_anew = tmp_path / "anew"
    train_anew.mkdir()
    train(train_anew, steps=8)
    resumed, anew = (torch.load(f / "layer.pt", weights_only=True) for f in (tmp_path, train_anew))
    torch.testing.assert_close(resumed["layer"], anew["layer"])


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^a bug$"), saving(tmp_path):
        raise RuntimeError("a bug")


def overfill(folder: Path) -> None:
    """Fills a small disk with checkpoints and with weights; prints what is said, and what is left."""
    from safetensors.torch import save_file

    with saving(folder):
        train(folder, steps=8)
    for write in (lambda: train(folder / "large", 8, 700), lambda: save_file({"w": torch.ones(10**6)}, folder / "w")):
        (folder / "large").mkdir(exist_ok=True)
        try:
            with saving(folder):
                write()
        except ScalexError as error:
            print(error)
    print(torch.load(folder / "layer.pt", weights_only=True)["step"], sorted(p.name for p in folder.rglob("*.p*")))


def test_a_full_disk_is_one_line_and_keeps_what_was_trained(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = f'mount -t tmpfs -o size=2m tmpfs {small} && exec "$@"'
    contained = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounting, "sh")
    if not shutil.which("unshare") or subprocess.run([*contained, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs leave to mount a small file system")
    command = (*contained, sys.executable, __file__, str(small))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    checkpoint, weights, kept = done.stdout.splitlines()
    assert checkpoint == f"disk full at {small / 'large'}. Free space and run the same command again"
    assert weights == f"disk full at {small}. Free space and run the same command again"
    assert kept == "8 ['layer.pt']"


if __name__ == "__main__":
    overfill(Path(sys.argv[1]))
