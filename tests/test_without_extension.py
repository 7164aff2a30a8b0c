"""mpsim where its C extension is not built: it imports and says so, and Numba computes what names no backend."""

from __future__ import annotations

import subprocess
import sys

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


def test_a_changed_environment_is_told() -> None:
    said, _ = output_of(
        "from mpsim.validate import SubjectError\n"
        "from mpsim.validate.subjects import environment, worker\n"
        "with environment.default_float_environment(): print('default')\n"
        "worker.float_state = lambda: ['flush-to-zero']\n"
        "try: environment.enter_float_environment()\n"
        "except SubjectError as error: print(error)"
    )
    default, changed = said.splitlines()
    assert default == "default"
    assert changed.startswith("this process has flush-to-zero, which only mpsim's C extension can set back")
