"""Builds mpsim._kernels: ext/kernels.pyx and the C files of ext/, most of them once per variant.

Everything else is in pyproject.toml. The files of ext/common/ are compiled once, all others once for each variant of
ext/common/variants.py whose flags the compiler takes; which variant runs is chosen at run time. What a build writes is
in build/. MPSIM_NO_EXTENSION=1 leaves the extension out.
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
from common import variants, wrappers  # noqa: E402
from common.building import Task, Toolchain, digest, included, make  # noqa: E402

EXT = Path("ext")
NO_EXTENSION = os.environ.get("MPSIM_NO_EXTENSION", "") not in ("", "0")


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
            shutil.rmtree(self.build_lib, ignore_errors=True)
        elif NO_EXTENSION:
            in_place().unlink(missing_ok=True)  # what is installed is this folder
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
            self._toolchain.check_python()
        return self._toolchain

    def build_extension(self, extension):
        toolchain = self.toolchain()
        openmp, names = variants.openmp(toolchain), variants.built(toolchain)
        if not openmp:
            print("mpsim: the compiler has no OpenMP: the compiled backend uses one thread")
        print(f"mpsim: the compiler builds these variants: {', '.join(names)}")
        wrappers.write(self.folder / "generated/functions.pxi", wrappers.pxi())
        tasks = [self.cython_task(toolchain, openmp), *variants.tasks(toolchain, self.folder, names, openmp)]
        inputs = digest(toolchain.compile_all(tasks), *self.compiler.linker_so)
        linked = tasks[0].output.with_name(in_place().name)
        flags = openmp + variants.link_flags(toolchain)
        make(linked, inputs, lambda: self.link(extension, tasks, linked, flags))
        for path in {Path(self.get_ext_fullpath(extension.name)), in_place()}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a new inode, so that a running process keeps the module it has mapped
            shutil.copy2(linked, path)

    def cython_task(self, toolchain, openmp):
        """The extension's C file, which Cython writes if anything that it reads has changed."""
        pyx, written = EXT / "kernels.pyx", self.folder / "kernels.c"
        inputs = digest(cython_version(), *included(pyx, [EXT, self.folder]))
        make(written, inputs, lambda: self.cythonize(pyx, written))
        output = self.folder / sys.implementation.cache_tag / "kernels.o"
        return Task(written, variants.flags(toolchain) + openmp, output)

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


setup(
    ext_modules=[] if NO_EXTENSION else [Extension("mpsim._kernels", ["ext/kernels.pyx"])],
    cmdclass={"build": Build, "build_py": BuildFiles, "build_ext": BuildKernels},
)
