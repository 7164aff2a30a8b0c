"""mpsim where its C extension is not built: it imports and says so, and Numba computes what names no backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ABSENT = "import sys; sys.modules['mpsim._kernels'] = None; "


def output_of(program: str) -> tuple[str, list[str]]:
    """The output, and the lines of standard error. Python's warnings are errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", ABSENT + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def test_numba_computes_and_an_import_says_so_once() -> None:
    said, (warning,) = output_of(
        "import mpsim, numpy as np\n"
        "print(mpsim.round_to(np.float64(0.3), 'float8_e5m2'))\n"
        "print(sorted(name for name in sys.modules if name in ('mpsim.kernels.compiled', 'mpsim.kernels.numba_cpu')))"
    )
    assert said.splitlines() == ["0.3125", "['mpsim.kernels.numba_cpu']"]
    assert warning.startswith("The default backend is numba, with the same bits: mpsim in ")
    assert "has no C extension. Run 'pip install .'" in warning


def test_no_other_module_names_the_compiled_backend() -> None:
    """It passes mpsim.kernels.DEFAULT_BACKEND. The backend itself, its description and CUDA's check name it."""
    named = {
        path.relative_to(ROOT).as_posix()
        for package in ("mpsim", "reference_models")
        for path in (ROOT / package).rglob("*.py")
        if '"compiled"' in path.read_text(encoding="utf-8") and "kernels/cuda" not in path.as_posix()
    }
    assert named == {"mpsim/kernels/__init__.py", "mpsim/cli/arithmetic.py"}


def test_the_warning_can_be_silenced() -> None:
    silence = "import logging; logging.getLogger('mpsim').setLevel('ERROR'); "
    assert output_of(silence + "import mpsim; print(mpsim.kernels.DEFAULT_BACKEND)") == ("numba", [])


def test_the_compiled_backend_says_what_to_install() -> None:
    said, _ = output_of(
        "import mpsim, numpy as np\n"
        "try: mpsim.round_to(np.float64(0.3), 'float8_e5m2', backend='compiled')\n"
        "except mpsim.BackendUnavailable as error: print(error)"
    )
    assert said.startswith("'compiled': mpsim in ") and "Run 'pip install .'" in said and 'backend="reference"' in said


def test_a_changed_environment_is_set_back() -> None:
    """By Numba's code in place of the extension's. The smallest normal number halved is 0 with flush-to-zero."""
    said, _ = output_of(
        "import numpy as np\n"
        "from mpsim.process import default_float_environment\n"
        "from mpsim.process.registers import DEFAULT, enter_float_environment, leave_float_environment\n"
        "half = lambda: print(np.float32(2.0**-126) * np.float32(0.5))\n"
        "leave_float_environment(DEFAULT | (0x8000 if DEFAULT else 1 << 24))\n"
        "half()\n"
        "with default_float_environment(): half()\n"
        "half()\n"
    )
    assert said.splitlines() == ["0.0", "5.877472e-39", "0.0"]


def test_numpy_computes_without_numba_too() -> None:
    said, _ = output_of(
        "sys.modules['numba'] = None\n"
        "import mpsim, numpy as np\n"
        "print(mpsim.round_to(np.float64(0.3), 'float8_e5m2', backend='reference'))\n"
    )
    assert said == "0.3125"
