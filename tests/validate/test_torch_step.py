"""docs/examples/torch_step.py: PyTorch agrees op by op, and the bugs that docs/validating.md plants are named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cast_documents import BLOCK, CHECKER, FLAGS, commands, run, sections

pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

DOCS = Path(__file__).parents[2] / "docs"


def test_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DOCS / "examples/torch_step.py", tmp_path)
    blocks = BLOCK.findall(sections()["You maintain a training framework"])
    first = next(index for index, (language, _, _) in enumerate(blocks) if language == "torch")
    code, ran = 0, 0
    for language, _, text in blocks[: first + 2]:
        assert language in ("console", "torch")
        for command, expected in commands(text):
            ran += 1
            if command == "echo $?":
                assert expected.strip() == str(code)
            elif command.startswith("python "):
                subprocess.run([sys.executable, "-W", "error", *command.split()[1:]], check=True)
            else:
                code, output = run(command)
                expected = re.sub(r"\n\Z", "", expected)
                assert CHECKER.check_output(expected + "\n", output.strip() + "\n", FLAGS), output
    assert ran == 8
