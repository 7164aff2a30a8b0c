"""Builds mpsim._kernels: ext/kernels.pyx and the C files of ext/, most of them once per variant.

Everything else is in pyproject.toml. The files of ext/common/ are compiled once, all others once for each row of
VARIANTS whose flags the compiler takes; which variant runs is chosen at run time. What a build writes is in build/.
MPSIM_NO_EXTENSION=1 leaves the extension out.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

sys.path.insert(0, "ext")
from common import wrappers  # noqa: E402
from common.building import Task, Toolchain, digest, included, make  # noqa: E402

EXT = Path("ext")
NO_EXTENSION = os.environ.get("MPSIM_NO_EXTENSION", "") not in ("", "0")
#: variant -> (compiler flags, macros that the compiler then defines), the best last. The C files see
#: -DVARIANT=<variant> and -DVARIANT_<variant>. ext/common/vector.h has the vectors of each, and ext/common/processor.h
#: says where it runs.
VARIANTS = {
    "portable": ([], []),
    "avx2": (["-mavx2", "-mfma", "-mf16c"], ["__AVX2__", "__FMA__"]),
    "avx512": (
        [f"-mavx512{each}" for each in ("f", "bw", "dq", "vl", "cd")]
        + ["-mavx2", "-mfma", "-mf16c", "-mprefer-vector-width=512"],
        ["__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__"],
    ),
}
# Bits: no contraction, no value-changing optimisation, whatever CFLAGS say. Speed: no errno and no trapping of what
# nobody reads. Size: no debugging symbols.
FLAGS = [
    "-fno-fast-math", "-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g0",
]  # fmt: skip


def variants_header(names):
    """The text of generated/variants.h: X(name) for each variant that was built."""
    rows = "".join(f"    X({name}) \\\n" for name in names)
    return f"/* Written by setup.py: the variants that were built, the best last. */\n#define VARIANTS(X) \\\n{rows}\n"


class Build(build):
    def run(self):
        """Looks for a compiler first, so that its absence is all that is printed."""
        if self.distribution.has_ext_modules():
            self.get_finalized_command("build_ext").toolchain()
        super().run()


class BuildFiles(build_py):
    def run(self):
        """Removes an earlier build, which may contain modules that are gone since."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "mpsim"), ignore_errors=True)
            shutil.rmtree(Path(self.build_lib, "reference_models"), ignore_errors=True)
        if NO_EXTENSION:
            in_place().unlink(missing_ok=True)
        super().run()


def in_place():
    """The extension beside mpsim's modules, where a process that runs in this folder finds it."""
    return Path("mpsim", f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}")


class BuildKernels(build_ext):
    def toolchain(self):
        """The compiler, as Python's own commands set it up from CC, CFLAGS and the platform."""
        if not hasattr(self, "_toolchain"):
            from setuptools._distutils.ccompiler import new_compiler
            from setuptools._distutils.sysconfig import customize_compiler

            compiler = new_compiler(compiler=self.compiler if isinstance(self.compiler, str) else None)
            customize_compiler(compiler)
            self.folder = Path("build", f"kernels-{self.plat_name}")
            python = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
            self._toolchain = Toolchain(compiler, [self.folder, EXT, *dict.fromkeys(python)])
        return self._toolchain

    def build_extension(self, extension):
        toolchain = self.toolchain()
        openmp = ["-fopenmp"] if toolchain.accepts(["-fopenmp"], "#include <omp.h>", link=True) else []
        if not openmp:
            print("mpsim: the compiler has no OpenMP: the compiled backend uses one thread")
        names = [name for name, row in VARIANTS.items() if toolchain.accepts(row[0], defined(row[1]))]
        print(f"mpsim: the compiler builds these variants: {', '.join(names)}")
        wrappers.write(self.folder / "generated/functions.pxi", wrappers.pxi())
        wrappers.write(self.folder / "generated/variants.h", variants_header(names))
        tasks = self.tasks(names, FLAGS + openmp + ([] if toolchain.is_clang_cl else ["-fvisibility=hidden"]))
        inputs = digest(toolchain.compile_all(tasks), *self.compiler.linker_so)
        linked = tasks[0].output.with_name(in_place().name)
        make(linked, inputs, lambda: self.link(extension, tasks, linked, openmp))
        for path in {Path(self.get_ext_fullpath(extension.name)), in_place()}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a new inode, so that a running process keeps the module it has mapped
            shutil.copy2(linked, path)

    def tasks(self, names, flags):
        """What is compiled: kernels.c, written by Cython, the files of ext/common/, and all others for each variant."""
        cython = self.folder / "kernels.c"
        pyx = EXT / "kernels.pyx"
        make(cython, digest(cython_version(), *included(pyx, [EXT, self.folder])), lambda: self.cythonize(pyx, cython))
        tasks = [Task(cython, flags, self.folder / sys.implementation.cache_tag / "kernels.o")]
        for source in sorted(EXT.glob("*/*.c")):
            if source.parent.name == "common":
                tasks.append(Task(source, flags, self.folder / source.with_suffix(".o")))
                continue
            for name in names:
                macros = [f"-DVARIANT={name}", f"-DVARIANT_{name}=1"]
                tasks.append(Task(source, flags + VARIANTS[name][0] + macros, self.folder / name / f"{source.stem}.o"))
        return tasks

    def cythonize(self, pyx, output):
        """Writes the extension's C file."""
        from Cython.Build import cythonize

        made = cythonize(
            [Extension("mpsim._kernels", [str(pyx)])],
            build_dir=str(self.folder / "cython"), include_path=[str(self.folder)], force=True, quiet=True,
        )  # fmt: skip
        shutil.copyfile(made[0].sources[0], output)

    def link(self, extension, tasks, output, flags):
        """Links the objects."""
        self.compiler.link_shared_object(
            [str(task.output) for task in tasks], str(output),
            libraries=self.get_libraries(extension), library_dirs=extension.library_dirs,
            extra_postargs=flags, export_symbols=self.get_export_symbols(extension), target_lang="c",
        )  # fmt: skip


def cython_version():
    """The version of Cython, whose update writes another C file."""
    from Cython import __version__

    return __version__


def defined(macros):
    """The lines of a program that does not compile unless the macros are defined."""
    return "".join(f"#ifndef {macro}\n#error {macro}\n#endif\n" for macro in macros)


setup(
    ext_modules=[] if NO_EXTENSION else [Extension("mpsim._kernels", ["ext/kernels.pyx"])],
    cmdclass={"build": Build, "build_py": BuildFiles, "build_ext": BuildKernels},
)
