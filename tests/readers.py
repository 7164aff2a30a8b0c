"""The ways in for files: a right file of each kind, what reads it, and what a damaged one may end in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

import reference_models
from mpsim import Plan, Trainer, assignment
from mpsim.blocks import quantizer_of
from mpsim.data.own import read_arrays, read_text
from mpsim.data.own.idx import read_idx
from mpsim.data.pictures.crops import RandomResizedCrop
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.data.pictures.imagenet import imagenet
from mpsim.data.restricted_pickle import load_arrays
from mpsim.data.tar import tar_members
from mpsim.errors import MpsimError
from mpsim.experiments.results import Results
from mpsim.files import archive
from mpsim.files.columns import text
from mpsim.files.tensors import TensorFile, write_tensors
from mpsim.products import passes
from mpsim.products.passes import accumulators_of
from mpsim.recording.reading import read_step
from mpsim.recording.steps import network_of, record_step
from mpsim.trace import trace
from mpsim.validate.blocks import lines
from mpsim.validate.cast.exhaustive import Sweep, load_sweep
from mpsim.validate.dot.vectors import read_dot_vectors
from mpsim.validate.step.naming import named_by, read_table
from mpsim.validate.subjects import testfloat, vectors_in
from mpsim.vectors.pack import verify
from mpsim.weights import load_weights, save_weights
from tests import data_files, mutations

Mutate = Callable[[bytes, np.random.Generator], bytes]
MOST_SECONDS, MOST_GROWTH = 5.0, 256 << 20


@dataclass(frozen=True)
class Reader:
    """A way in: a right file's name and content, what reads its path, and how the content is damaged."""

    name: str
    content: Callable[[], bytes]
    read: Callable[[Path], object]
    damages: tuple[Mutate, ...] = (mutations.of_bytes,)


@cache
def _model() -> reference_models.Network:
    return reference_models.build("small_cnn", 0.0625)


@cache
def _trainer() -> Trainer:
    network = trace(_model(), batch=2)
    return Trainer(_model(), assignment.demote(network, 0.5), backend="reference")


def _plan() -> bytes:
    return assignment.demote(trace(_model(), batch=2), 0.5).to_json().encode()


@cache
def _step(suffix: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"step{suffix}")
        record = record_step(_trainer(), np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]))
        write_tensors(path, record.tensors, record.index)
        return path.read_bytes()


@cache
def _weights(suffix: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"weights{suffix}")
        save_weights(_model(), path)
        return path.read_bytes()


def _read_network(path: Path) -> None:
    network_of(read_step(path))


@cache
def _results() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with Results.in_folder(folder) as results:
            for key in ("one", "two"):
                results.start(key, {"seed": 0}, plan=_plan().decode(), environment={})
                results.add_epoch(key, 0, {"train_loss": 2.5}, b"state" * 100)
            results.finish("one", {"test_accuracy": 0.5, "semantics_version": 2}, final_plan="{}")
        return Path(folder, "mpsim.sqlite").read_bytes()


def _read_results(path: Path) -> object:
    with Results(path) as results:
        return [
            results.runs(), results.epochs_done(), results.checkpoint("two"), results.plans("one"),
            results.history("one"), results.result("one"),
        ]  # fmt: skip


def _same_results(path: Path) -> None:
    """Results that are read are those that were written."""
    found = _read_results(path)
    assert found == _right_results(), f"other results: {found}"[:300]


@cache
def _right_results() -> object:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mpsim.sqlite")
        path.write_bytes(_results())
        return _read_results(path)


def _manifest() -> bytes:
    entry = {"sha256": "0" * 64, "bytes": 3}
    record = {
        "mpsim": "1", "pack_version": 2, "semantics_version": 2, "arguments": {}, "digest": "",
        "sets": [{"name": "a", "files": ["a.txt"]}], "files": {"a.txt": entry},
    }  # fmt: skip
    return json.dumps(record).encode()


def _verify(path: Path) -> object:
    path.rename(path.with_name("manifest.json"))
    return verify(path.parent)


def only_data(value: object) -> None:
    """Raises AssertionError unless a value and all in it are numbers, texts, lists and arrays of numbers."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple | set | frozenset):
            assert type(value).__module__ == "builtins", type(value)
            if id(value) not in seen:  # a list may contain itself
                seen.add(id(value))
                waiting += [*value, *value.values()] if isinstance(value, dict) else value
        elif isinstance(value, np.ndarray):
            assert type(value) is np.ndarray and value.dtype.kind in "iuf", value.dtype
        else:
            assert type(value) in (int, float, complex, bool, str, bytes, bytearray, type(None)), type(value)


def _dot() -> bytes:
    arrays = {"a": np.ones((4, 8), np.uint8), "b": np.ones((4, 8), np.uint8), "expected": np.ones(4, np.uint32)}
    return archive.pack(arrays | {"inputs": np.array("float8_e4m3fn")})


def _blocks() -> bytes:
    rng = np.random.default_rng(0)
    found = {"input": rng.standard_normal((3, 32)).astype(np.float32), "expected": np.zeros((3, 32), np.uint8)}
    return archive.pack(found | {"scale": np.full((3, 1), 127, np.uint8)})


def _block_text() -> bytes:
    row = " ".join(["3f800000"] * 32 + ["38"] * 32 + ["7f"])
    return f'// ; {{"columns": {{"input": 32, "expected": 32, "scale": 1}}}}\n{row}\n{row}\n'.encode()


def _lines() -> bytes:
    return b'{"format": "float8_e5m2", "source": "float32"}\n' + b'{"input": "3f800000", "expected": "3c"}\n' * 3


def _names() -> bytes:
    return json.dumps({"out": "Y/3/0", "weight": "P/1/1.T"}).encode()


def _read_names(path: Path) -> object:
    return named_by(TensorFile({"out": np.zeros(2), "weight": np.zeros((2, 3))}), read_table(path))


def _read_truth(path: Path) -> object:
    """As the ground truth of a folder with one picture."""
    (path.parent / "val").mkdir(exist_ok=True)
    (path.parent / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    return imagenet(path.parent, "test")


def _read_kit(path: Path) -> object:
    (path.parent / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    return _read_truth(path)


def _read_picture(path: Path) -> None:
    """Also the crop of training."""
    files = ImageFiles((str(path),), np.array([0]), ("a",), size=32)
    files.load(np.array([0]))
    files.load(np.array([0]), RandomResizedCrop(), np.zeros((1, RandomResizedCrop.words_per_image), np.uint32))


QUANTIZER = quantizer_of("mxfp8_e4m3")
ZIP = (mutations.of_zip,)
READERS = [
    Reader("plan.json", _plan, lambda path: Plan.from_json(text(path)), (mutations.of_json, mutations.of_bytes)),
    Reader(
        "accumulators.json",
        lambda: json.dumps(passes.to_dict(accumulators_of("forward=hopper_float16;conv1:exact"))).encode(),
        lambda path: accumulators_of(text(path)),
        (mutations.of_json, mutations.of_bytes),
    ),
    Reader("state.ckpt", lambda: _trainer().dump(), Trainer.load, ZIP),
    Reader("step.npz", lambda: _step(".npz"), _read_network, ZIP),
    Reader("step.safetensors", lambda: _step(".safetensors"), _read_network),
    Reader("weights.npz", lambda: _weights(".npz"), lambda path: load_weights(_model(), path), ZIP),
    Reader("weights.safetensors", lambda: _weights(".safetensors"), lambda path: load_weights(_model(), path)),
    Reader("mpsim.sqlite", _results, _read_results),
    Reader("flipped.sqlite", _results, _same_results, (mutations.one_bit,)),
    Reader("pack.json", _manifest, _verify, (mutations.of_json, mutations.of_bytes)),
    Reader(
        "data.pickle",
        data_files.pickled,
        lambda path: only_data(load_arrays(path.read_bytes())),
        (mutations.of_pickle,),
    ),
    Reader("data.tar.gz", data_files.tar, lambda path: list(tar_members(path, lambda name: True))),
    Reader("dot.npz", _dot, read_dot_vectors, ZIP),
    Reader("blocks.npz", _blocks, lambda path: lines.read(path, QUANTIZER), ZIP),
    Reader("blocks.txt", _block_text, lambda path: lines.read(path, QUANTIZER)),
    Reader("cast.jsonl", _lines, vectors_in.read),
    Reader("cast.txt", lambda: b"// float8_e5m2\n3f800000 3c\n40000000 40 1\n", vectors_in.read),
    Reader(
        "cast.npz",
        lambda: archive.pack({"input": np.arange(9, dtype=np.uint32), "expected": np.arange(9, dtype=np.uint8)}),
        vectors_in.read,
        ZIP,
    ),
    Reader(
        "sweep.json",
        lambda: json.dumps(vars(Sweep("k", 3, 2, [1, 2], 0.5, 0.25))).encode(),
        lambda path: load_sweep(path, "k"),
        (mutations.of_json, mutations.of_bytes),
    ),
    Reader("operations.tv", lambda: b"3c00 4000 4200 01\n7c00 fc00 7e00 10\n", lambda path: testfloat.read(path, 2)),
    Reader("names.json", _names, _read_names, (mutations.of_json, mutations.of_bytes)),
    Reader("train-images-idx3-ubyte", data_files.idx(), read_idx),
    Reader("train-images-idx3-ubyte.gz", data_files.idx(".gz"), read_idx),
    Reader("images.npz", data_files.images, read_arrays, ZIP),
    Reader("data.txt", lambda: "Grüße, Welt.\n".encode() * 20, lambda path: read_text(path, context=8)),
    Reader("LOC_val_solution.csv", data_files.truth, _read_truth),
]  # fmt: skip
#: Read by another process, which takes most of a second.
KIT = Reader("meta.mat", data_files.kit, _read_kit)
if find_spec("PIL") is not None:
    READERS += [
        Reader("photo.jpg", data_files.picture("JPEG"), _read_picture),
        Reader("progressive.jpeg", data_files.picture("JPEG", progressive=True), _read_picture),
        Reader("colours.png", data_files.picture("PNG"), _read_picture),
        Reader("palette.png", data_files.picture("PNG", "P"), _read_picture),
        Reader("plain.bmp", data_files.picture("BMP"), _read_picture),
        Reader("palette.gif", data_files.picture("GIF", "P"), _read_picture),
        Reader("photo.webp", data_files.picture("WEBP"), _read_picture),
        Reader("exact.webp", data_files.picture("WEBP", lossless=True), _read_picture),
        Reader("plain.tif", data_files.picture("TIFF"), _read_picture),
        Reader("packed.tiff", data_files.picture("TIFF", compression="tiff_lzw"), _read_picture),
        Reader("colours.ppm", data_files.picture("PPM"), _read_picture),
    ]


class Outcome(NamedTuple):
    """What reading a damaged file ended in. ``escaped``: what is neither a value nor mpsim's error within 5 s."""

    said: str
    escaped: bool = False


def read_damaged(reader: Reader, damaged: bytes, folder: Path) -> Outcome:
    """Writes the file to the folder and reads it."""
    path = folder / reader.name
    path.unlink(missing_ok=True)  # ext4 writes a file that is truncated and written again to the disk at once
    path.write_bytes(damaged)
    begun = time.monotonic()
    try:
        reader.read(path)
        said = "a value"
    except MpsimError as error:
        said = str(error)
        if not said:
            return Outcome("an error without a message", True)
    except BaseException as error:
        return Outcome(f"{type(error).__name__}: {error}"[:300], True)
    seconds = time.monotonic() - begun
    return Outcome(f"{seconds:.1f} s", True) if seconds > MOST_SECONDS else Outcome(said)
