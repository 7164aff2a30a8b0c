"""Command lines: any arguments of every command end in exit code 0, 1 or 2, and never in a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from commands import ARGUMENTS, with_files
from hypothesis import strategies as st

from mpsim.cli import main
from mpsim.formats import FORMATS
from mpsim.policies import Mode, Overflow
from website.commands import leaves

#: A command that takes longer is stopped as by Ctrl-C, and ends with exit code 130.
SECONDS = 10
MOST_MEMORY = 6 << 30
NUMBERS = [
    "0",
    "1",
    "2",
    "-1",
    "3.5",
    "1e308",
    "nan",
    "inf",
    str(2**63),
    str(10**20),
    "0x10",
    "1e-320",
    "٣",
    "1_0",
    "9" * 5000,
]
TEXTS = [
    "", " ", "x", "-", "--", "é", "\ud800", "a" * 3000, "0.5,0.7", ",", "{", "{}", "[", "null", '{"a": 1}', "a:b",
    "a:b:c",
    "float8_e4m3fn/float8_e5m2", "fp_4_3_4", "fp_99_1_0", "fp_4_20000000000_0", "p3109_k8p3", "rising()", "rising(",
    "exact", "chunk=8,fma=false", "forward=exact", "quantizer()", "quantizer(block(3))", "small_cnn", "digits", "paper",
    "largest_first", "mxfp8_e4m3", "hopper_float16", "adam", "cosine", "add", "Binary4p2se", "ml_dtypes.bfloat16",
    "accumulator:exact", "mpsim.round_to", "numpy:sqrt", "os:getcwd", "no.such.module", "json:dumps",
]  # fmt: skip
PATHS = ["HERE/adder.py:add", "HERE/quantiser.py:quantise", "HERE/step.npz", "HERE", "HERE/new", "HERE/no/such/file",
         "/dev/null", "/dev/full", "HERE/adder.py", "HERE/adder.py:nothing", "HERE/empty", "HERE/noise"]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(PATHS), st.sampled_from(sorted(FORMATS)[:40]),
    st.sampled_from([str(each.value) for each in (*Mode, *Overflow)]),
    st.text(max_size=8).filter(lambda x: "\0" not in x),
)  # fmt: skip


@cache
def commands() -> dict[str, Any]:
    return dict(leaves())


@cache
def template() -> Path:
    """A folder with the files that commands read. It is copied for each example."""
    folder = with_files(Path(tempfile.mkdtemp()))
    (folder / "empty").touch()
    (folder / "noise").write_bytes(bytes(range(256)) * 4)
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY,) * 2)
    return folder


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command, some of its usual arguments, and options with any words."""
    name = draw(st.sampled_from(sorted(commands())))
    given = list(ARGUMENTS.get(name, []))
    if not draw(st.integers(0, 3)):
        given = given[: draw(st.integers(0, len(given)))]
    for i in range(len(given)):
        if not draw(st.integers(0, 9)):
            given[i] = draw(WORDS)
    options = [option for parameter in commands()[name].params for option in parameter.opts]
    for _ in range(draw(st.integers(0, 3))):
        option = draw(st.sampled_from(options)) if options else "--help"
        given += [option] if option.startswith("-") and not draw(st.integers(0, 4)) else [option, draw(WORDS)]
    return [*name.split(), *(word.replace("{}", "HERE") for word in given)]


@contextlib.contextmanager
def stopped_in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command_lines(data: st.DataObject) -> None:
    """Runs one command in a separate folder."""
    line = data.draw(lines(), label="command line")
    before = Path.cwd()
    template()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "here")
        shutil.copytree(template(), folder)
        os.chdir(folder)
        output, errors, code = io.StringIO(), io.StringIO(), None
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), stopped_in_time():
                main([word.replace("HERE", str(folder)) for word in line])
        except SystemExit as ended:
            code = ended.code
        finally:
            os.chdir(before)
    assert code in (0, 1, 2, 130), (line, code)
    assert "Traceback" not in errors.getvalue(), (line, errors.getvalue()[-2000:])
