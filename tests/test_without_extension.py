"""mpsim where its C extension is not built: it imports, the other backends work, and errors say what to do."""

from __future__ import annotations

import subprocess
import sys

ABSENT = "import sys; sys.modules['mpsim._kernels'] = None; "


def output_of(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", ABSENT + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_other_backends_round() -> None:
    program = "import mpsim, numpy as np; print(mpsim.round_to(np.float64(0.3), 'float8_e5m2', backend='reference'))"
    assert output_of(program) == "0.3125"


def test_the_compiled_backend_says_what_to_install() -> None:
    program = (
        "import mpsim, numpy as np\n"
        "try: mpsim.round_to(np.float64(0.3), 'float8_e5m2')\n"
        "except mpsim.BackendUnavailable as error: print(error)"
    )
    said = output_of(program)
    assert said.startswith("'compiled': ") and "Run 'pip install -e .'" in said and 'backend="reference"' in said


def test_a_changed_environment_is_told() -> None:
    program = (
        "from mpsim.validate import SubjectError\n"
        "from mpsim.validate.subjects import environment, worker\n"
        "with environment.default_float_environment(): print('default')\n"
        "worker.float_state = lambda: ['flush-to-zero']\n"
        "try: environment.enter_float_environment()\n"
        "except SubjectError as error: print(error)"
    )
    default, said = output_of(program).splitlines()
    assert default == "default"
    assert said.startswith("this process has flush-to-zero, which only mpsim's C extension can set back")
