"""Lists what is compiled for which instruction set: the table of variants, the flags, and one task for each object."""

from __future__ import annotations

from pathlib import Path

from common.building import Task, Toolchain
from common.wrappers import write

EXT = Path(__file__).resolve().parents[1]
#: variant -> (compiler flags, macros that the compiler then defines), the best last. The C files see
#: -DVARIANT=<variant> and -DVARIANT_<variant>. vector.h has the vectors of each, and processor.h says where it runs.
VARIANTS: dict[str, tuple[list[str], list[str]]] = {
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


def flags(toolchain: Toolchain) -> list[str]:
    """Returns the flags of every file. MMX would leave the registers of long double in use, and x87 rounds twice."""
    of_x86 = [flag for flag in ("-mno-mmx", "-mfpmath=sse") if toolchain.accepts([flag])]
    return FLAGS + of_x86 + ([] if toolchain.is_clang_cl else ["-fvisibility=hidden"])


def link_flags(toolchain: Toolchain) -> list[str]:
    """Returns the flags of the linker. After -Ofast in CFLAGS, loading the extension would set flush-to-zero."""
    return [] if toolchain.is_clang_cl else ["-O3", "-fno-fast-math"]


def openmp(toolchain: Toolchain) -> list[str]:
    """Returns the flags of OpenMP, none if there is none."""
    return ["-fopenmp"] if toolchain.accepts(["-fopenmp"], "#include <omp.h>", link=True) else []


def built(toolchain: Toolchain) -> list[str]:
    """Returns the variants that the compiler builds: it takes their flags and then defines their macros."""

    def program(macros: list[str]) -> str:
        return "".join(f"#ifndef {macro}\n#error {macro}\n#endif\n" for macro in macros)

    return [name for name, (given, macros) in VARIANTS.items() if toolchain.accepts(given, program(macros))]


def header(names: list[str]) -> str:
    """Returns the text of generated/variants.h: X(name) for each variant that is built."""
    rows = "".join(f"    X({name}) \\\n" for name in names)
    comment = "/* Written by ext/common/variants.py: the variants that are built, the best last. */"
    return f"{comment}\n#define VARIANTS(X) \\\n{rows}\n"


def tasks(toolchain: Toolchain, folder: Path, names: list[str], further: list[str]) -> list[Task]:
    """Writes generated/variants.h into the folder, and returns the tasks of all C files of ext/.

    The files of common/ are compiled once, all others once for each variant.
    """
    write(folder / "generated/variants.h", header(names))
    found, common = [], flags(toolchain) + further
    for source in sorted(EXT.glob("*/*.c")):
        if source.parent.name == "common":
            found.append(Task(source, common, folder / "common" / f"{source.stem}.o"))
            continue
        for name in names:
            own = [*VARIANTS[name][0], f"-DVARIANT={name}", f"-DVARIANT_{name}=1"]
            found.append(Task(source, common + own, folder / name / f"{source.stem}.o"))
    return found
