"""Writes a recorded training step as a pack of vectors (docs/vectors.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpsim import networks
from mpsim.assignment import assign
from mpsim.files import archive
from mpsim.files.records import Fields, Json
from mpsim.files.tensors import INDEX
from mpsim.kernels.philox import Stream, random_bits
from mpsim.recording.steps import record_step
from mpsim.trace import trace
from mpsim.training.trainer import Trainer
from mpsim.vectors.forms import Array, hex_words, text_bytes
from mpsim.vectors.pack import Manifest, write_files, write_manifest


def step_files(tensors: Mapping[str, Array], index: Mapping[str, Json]) -> dict[str, bytes]:
    """Returns the files of a recorded step.

    They are step.npz, which ``mpsim validate step`` reads, its index step.json, and the float32 or integer words of
    each tensor as a .mem file, as a line of step.jsonl and as an array in step.h.
    """
    text = json.dumps(index, indent=1)
    found = {"step.npz": archive.pack(tensors, {f"{INDEX}.json": text}), "step.json": (text + "\n").encode()}
    lines, header = [], ["#ifndef MPSIM_STEP_H", "#define MPSIM_STEP_H", "#include <stdint.h>"]
    for name, array in tensors.items():
        bits = 8 * array.dtype.itemsize
        words = hex_words(np.ascontiguousarray(array).reshape(-1).view(f"uint{bits}"), bits)
        found[f"{name.replace('/', '.')}.mem"] = text_bytes(words)
        lines.append(json.dumps({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "words": words}))
        symbol = "step_" + re.sub(r"\W", "_", name)
        literals = ", ".join(f"0x{word}{'ull' if bits == 64 else 'u'}" for word in words) or "0"
        header.append(f"static const uint{bits}_t {symbol}[{max(len(words), 1)}] = {{{literals}}};")
    return found | {"step.jsonl": text_bytes(lines), "step.h": text_bytes([*header, "#endif"])}


def write_step(out: str | Path, arguments: Fields) -> Manifest:
    """Records one training step and writes it as a pack.

    Images are Philox words and labels are rising numbers, so that the pack does not depend on a dataset. Tokens are the
    words multiplied by the vocabulary.

    Args:
        out: The folder.
        arguments: model, width, batch, scheme, levels and seed.
    """
    batch, seed = arguments["batch"], arguments["seed"]
    network = networks.build(arguments["model"], width=arguments["width"], seed=seed)
    traced = trace(network, batch=batch)
    plan = assign(traced, arguments["scheme"], levels=arguments["levels"])
    shape = (batch, *network.input_shape)
    words = random_bits(Stream(seed, "data_order", tensor=5), int(np.prod(shape)))
    if network.vocabulary is None:
        images = ((words >> 24).astype(np.float32) / np.float32(128) - np.float32(1)).reshape(shape)
    else:
        images = (
            (words.astype(np.uint64) * np.uint64(network.vocabulary) >> np.uint64(32)).astype(np.int64).reshape(shape)
        )
    labels = np.arange(int(np.prod(traced.label_shape))).reshape(traced.label_shape) % network.classes
    record = record_step(Trainer(network, plan, seed=seed), images, labels)
    folder = Path(out)
    files = write_files(folder, step_files(record.tensors, record.index))
    about = {"name": "step", "vectors": len(record.tensors), "files": sorted(files)}
    return write_manifest(folder, files, [about], arguments)
