"""Builds mpsim._kernels: ext/kernels.pyx and the C files of ext/, some of them once per instruction set.

Everything else is in pyproject.toml. A file ``ext/simd_*.c`` is compiled once for each row of VARIANTS whose
flags the compiler takes (on that machine's architecture); which one runs is chosen at run time.
"""

import os
import platform
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine().lower() in ("x86_64", "amd64")
#: variant -> compiler flags; the C files see -DVARIANT=<variant> and -DVARIANT_<variant>.
VARIANTS = {"portable": []}
if X86:
    VARIANTS |= {
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avx512": [
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mavx512cd",
            "-mavx2",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
    }
# Bits: no contraction, no value-changing optimisation. Speed: no errno and no trapping of what nobody reads.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]


class BuildKernels(build_ext):
    def build_extension(self, extension):
        include = [*self.include_dirs, *extension.include_dirs, sysconfig.get_path("include")]
        openmp = ["-fopenmp"] if self.accepts(["-fopenmp"], link=True) else []
        macros = [] if openmp else [("MPSIM_NO_OPENMP", "1")]
        for variant, flags in VARIANTS.items():
            if not self.accepts(flags):
                print(f"mpsim: the compiler does not take {flags}; building without {variant}")
                continue
            macros.append((f"HAVE_{variant}", "1"))
            for source in sorted(map(str, Path("ext").glob("simd_*.c"))):
                extension.extra_objects += self.compiler.compile(
                    [source],
                    output_dir=os.path.join(self.build_temp, variant),
                    macros=[("VARIANT", variant), (f"VARIANT_{variant}", "1"), *macros],
                    include_dirs=include,
                    extra_preargs=FLAGS + openmp + flags,
                    depends=[str(header) for header in Path("ext").glob("*.h")],
                )
        extension.define_macros += macros
        extension.extra_compile_args += FLAGS + openmp
        extension.extra_link_args += openmp
        # A new inode, so that a running process keeps the module it has mapped.
        Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        super().build_extension(extension)

    def accepts(self, flags, link=False):
        """Whether the compiler builds an empty program with these flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int main(void) { return 0; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_preargs=flags)
                if link:
                    self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
            except Exception:
                return False
        return True


setup(
    ext_modules=[
        Extension(
            "mpsim._kernels",
            ["ext/kernels.pyx", *sorted(map(str, Path("ext").glob("base_*.c")))],
            include_dirs=["ext"],
            depends=[str(header) for header in Path("ext").glob("*.h")],
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
