"""Builds mpsim._kernels: ext/kernels.pyx and the C files of ext/, most of them once per variant.

Everything else is in pyproject.toml. The files of ext/common/ are compiled once, all others once for each row of
VARIANTS whose flags the compiler takes; which variant runs is chosen at run time. ext/generated/ gets the list of the
variants that were built, for ext/common/dispatch.c, and the Python functions of the kernels.
"""

import itertools
import os
import platform
import runpy
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

EXT = Path("ext")
X86 = platform.machine().lower() in ("x86_64", "amd64")
#: variant -> (compiler flags, features of the processor it needs), the best last. The C files see -DVARIANT=<variant>
#: and -DVARIANT_<variant>; ext/common/vector.h has the vectors of each.
VARIANTS = {"portable": ([], [])}
if X86:
    AVX512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx2", "fma"]
    VARIANTS |= {
        "avx2": (["-mavx2", "-mfma", "-mf16c"], ["avx2", "fma"]),
        "avx512": ([*(f"-m{feature}" for feature in AVX512), "-mprefer-vector-width=512"], AVX512),
    }
# Bits: no contraction, no value-changing optimisation. Speed: no errno and no trapping of what nobody reads.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]


def variants_header(names):
    """The text of ext/generated/variants.h: X(name, condition) for each variant that was built."""
    lines = ["/* Written by setup.py: the variants that were built, the best last. */", "#define VARIANTS(X) \\"]
    for name in names:
        tests = [f'__builtin_cpu_supports("{feature}")' for feature in VARIANTS[name][1]]
        lines.append(f"    X({name}, {' && '.join(tests) or '1'}) \\")
    return "\n".join(lines) + "\n\n"


class BuildKernels(build_ext):
    def build_extension(self, extension):
        openmp = ["-fopenmp"] if self.accepts(["-fopenmp"], link=True) else []
        names = [name for name, (flags, _) in VARIANTS.items() if self.accepts(flags)]
        if missing := VARIANTS.keys() - names:
            print(f"mpsim: the compiler does not take the flags of {', '.join(sorted(missing))}")
        wrappers = runpy.run_path(str(EXT / "common/wrappers.py"))
        wrappers["write"](EXT / "generated/wrappers.pxi", wrappers["pxi"]())
        wrappers["write"](EXT / "generated/variants.h", variants_header(names))
        extension.extra_objects += self.compile_variants(extension, names, FLAGS + openmp)
        extension.extra_compile_args += FLAGS + openmp
        extension.extra_link_args += openmp
        # A new inode, so that a running process keeps the module it has mapped.
        Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        super().build_extension(extension)

    def compile_variants(self, extension, names, flags):
        """Compiles every file that is not of ext/common/ for each variant, several at once, and returns the objects."""
        sources = [str(path) for path in sorted(EXT.glob("*/*.c")) if path.parent.name != "common"]

        def compile_one(name, source):
            return self.compiler.compile(
                [source],
                output_dir=os.path.join(self.build_temp, name),
                macros=[("VARIANT", name), (f"VARIANT_{name}", "1")],
                include_dirs=[*self.include_dirs, *extension.include_dirs, sysconfig.get_path("include")],
                extra_preargs=flags + VARIANTS[name][0],
                depends=headers(),
            )

        for name in names:  # so that no two threads create a folder
            for source in sources:
                Path(self.build_temp, name, source).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = pool.map(compile_one, *zip(*itertools.product(names, sources), strict=True))
            return [each for found in objects for each in found]

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


def headers():
    """What every C file depends on."""
    return [str(path) for path in sorted(EXT.glob("*/*.h"))]


setup(
    ext_modules=[
        Extension(
            "mpsim._kernels",
            ["ext/kernels.pyx", *sorted(map(str, EXT.glob("common/*.c")))],
            include_dirs=["ext"],
            depends=headers(),
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
