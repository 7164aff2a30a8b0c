"""Writes a page for each preset: casts, products and quantisers, with the source of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mpsim.blocks import BLOCK_FORMATS, dequantize, quantize
from mpsim.blocks.quantizers.presets import PRESETS as QUANTISERS
from mpsim.blocks.quantizers.presets import Preset as QuantiserPreset
from mpsim.blocks.quantizers.words import sentence_of as quantiser_sentence
from mpsim.contraction import matmul
from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode
from mpsim.products.accumulators import in_stages
from mpsim.products.aligned import AlignedScaled
from mpsim.products.presets import PRESETS as PRODUCTS
from mpsim.products.presets import Preset as ProductPreset
from mpsim.products.tensor_cores import described
from mpsim.products.words import sentence_of as product_sentence
from mpsim.validate.cast.presets import PRESETS as CASTS
from mpsim.validate.cast.presets import Preset as CastPreset
from mpsim.validate.sources import SOURCES
from website.formats import of_levels
from website.tables import code, plain, slug, table


def pages() -> dict[str, str]:
    """The Markdown of every page by its path, in the order of the navigation."""
    found = {"presets/index.md": _overview(), "presets/casts/index.md": _casts_overview()}
    found |= {f"presets/casts/{slug(name)}.md": _cast(preset) for name, preset in CASTS.items()}
    found["presets/products/index.md"] = _products_overview()
    found |= {f"presets/products/{name}.md": _product(name, preset) for name, preset in PRODUCTS.items()}
    found["presets/quantisers/index.md"] = _quantisers_overview()
    found |= {f"presets/quantisers/{name}.md": _quantiser(name, preset) for name, preset in QUANTISERS.items()}
    return found


def _overview() -> str:
    rows = [
        ("[casts](casts/index.md)", len(CASTS), "how a system rounds numbers of a type to a format"),
        ("[products](products/index.md)", len(PRODUCTS), "how an instruction or a library adds products"),
        ("[quantisers](quantisers/index.md)", len(QUANTISERS), "how a system gives groups of numbers a scale"),
    ]
    return "# Presets\n\nA preset describes a real system, with its source.\n\n" + table(
        ("kind", "presets", "what"), rows
    )


# -- casts --------------------------------------------------------------------------------------------------------
def _targets() -> Iterable[Format]:
    """The named formats, those of the named levels, and one that stands for each other kind that a preset may have."""
    more = {name: FORMATS[name] for name in ("fp_5_10_0", "p3109_k8p3")}
    return {**FORMATS, **of_levels(), **more}.values()


def _cast(preset: CastPreset) -> str:
    """The page of a cast: what it computes for every format and source that it supports."""
    rows: dict[tuple[str, str], list[str]] = {}
    for format in _targets():
        for source in SOURCES.values():
            rule = preset.rule(format, source)
            if rule is not None:
                rows.setdefault((format.name, rule.describe()), []).append(source.name)
    linked = [(_format_link(name), ", ".join(sources), words) for (name, words), sources in rows.items()]
    (name, _), sources = next(iter(rows.items()))
    command = f"mpsim validate cast SUBJECT --format {name} --source {sources[0]} --preset '{preset.name}'"
    return (
        f"# {plain(preset.name)}\n\n{plain(preset.what)}.\n\nSource: {plain(preset.source)}.\n\n"
        f"## What it computes\n\n{table(('format', 'sources', 'rule'), linked)}"
        f"## Use\n\nThis command compares a subject with the preset:\n\n{code(command, 'text')}"
        "[Validating other implementations](../../validating.md) explains the forms of a subject and the verdicts. "
        "[The definition](../../semantics.md#2-rounding) explains the terms of a rule.\n"
    )


def _format_link(name: str) -> str:
    return f"[{name}](../../formats/{name}.md)" if name in FORMATS else f"`{name}`"


def _casts_overview() -> str:
    rows = [(f"[{plain(row.name)}]({slug(row.name)}.md)", plain(row.what), plain(row.source)) for row in CASTS.values()]
    return (
        "# Presets of casts\n\nA preset is the rule that a known system follows. `--preset` of `mpsim validate cast` "
        "declares it, and without a declaration the report names the presets that equal the subject.\n\n"
        + table(("preset", "system", "source"), rows)
    )


# -- products -----------------------------------------------------------------------------------------------------
def _product(name: str, preset: ProductPreset) -> str:
    """The page of a matrix instruction or of a library's sum."""
    product = in_stages(preset.summation)
    parts = [
        f"# {name}\n\n{product_sentence(product)}\n\nSource: {plain(preset.source)}.\n\n",
        "## Description\n\n`--accumulator` takes the name or this text:\n\n"
        + code(described(preset.summation), "text"),
    ]
    if not isinstance(product.order, AlignedScaled):  # which needs scales
        top = min(12, *(FORMATS[each.format].max_exponent for each in (product.left, product.right)))
        a, b = np.float32([[2.0**top, 1, 1, -(2.0**top)]]), np.float32([[2.0**top], [1], [1], [2.0**top]])
        result = float(matmul(a, b, preset.summation, backend="reference")[0, 0])
        lines = [
            ">>> import numpy as np", ">>> from mpsim import matmul", ">>> from mpsim.validate import accumulator_of",
            f">>> a = np.float32([[{2**top}, 1, 1, {-(2**top)}]])",
            f">>> b = np.float32([[{2**top}], [1], [1], [{2**top}]])",
            f'>>> float(matmul(a, b, accumulator_of("{name}"))[0, 0])', f"{result}",
        ]  # fmt: skip
        parts.append("## Example\n\nThe exact result is 2.\n\n" + code("\n".join(lines), "pycon"))
    command = f"mpsim validate dot SUBJECT --accumulator {name}"
    parts.append(f"## Use\n\nThis command compares a subject with the preset:\n\n{code(command, 'text')}")
    parts.append(
        "[Validating dot products](../../dot_products.md) explains the stages, the subjects and the verdicts.\n"
    )
    return "".join(parts)


def _products_overview() -> str:
    """One table for each processor or library, by the first part of the names."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, preset in PRODUCTS.items():
        groups.setdefault(name.split("_")[0], []).append((f"[{name}]({name}.md)", plain(preset.source)))
    parts = [
        "# Presets of products\n\nA preset is what a matrix instruction or a library's sum computes. The options "
        "`--accumulator` and the function [`accumulator_of`](../../api/mpsim.validate.md) take its name.\n\n"
    ]
    for family, rows in groups.items():
        parts.append(f"## {family}\n\n{table(('preset', 'source'), rows)}")
    return "".join(parts)


# -- quantisers ---------------------------------------------------------------------------------------------------
def _quantiser(name: str, preset: QuantiserPreset) -> str:
    """The page of a quantiser, with what it gives for four numbers of a group."""
    quantizer = preset.quantizer
    x, more, words = np.linspace(-3, 3, 16, dtype=np.float32)[None], {}, ""
    if quantizer.statistic.source == "given":  # delayed scaling
        more, words = {"statistic": 4.0}, ", statistic=4.0"
    elif getattr(quantizer.element, "mode", None) == Mode.STOCHASTIC:
        more, words = {"random_bits": np.zeros(x.shape, np.uint32)}, ", random_bits=np.zeros(x.shape, np.uint32)"
    y = dequantize(quantize(x, quantizer, backend="reference", **more), backend="reference")
    lines = [
        ">>> import numpy as np", ">>> from mpsim.blocks import dequantize, quantize, quantizer_of",
        ">>> x = np.linspace(-3, 3, 16, dtype=np.float32)[None]",
        f'>>> blocks = quantize(x, quantizer_of("{name}"){words})',
        ">>> dequantize(blocks)[0, :4].tolist()", f"{y[0, :4].tolist()}",
    ]  # fmt: skip
    note = f"\n\nNote: {preset.note}." if preset.note else ""
    formats = f"It is also the block format `{name}`.\n\n" if name in BLOCK_FORMATS else ""
    return (
        f"# {name}\n\n{quantiser_sentence(quantizer)}\n\n{formats}Source: {plain(preset.source)}.{note}\n\n"
        f"## Description\n\n{code(preset.text, 'text')}"
        f"## Example\n\n{code(chr(10).join(lines), 'pycon')}"
        f"## Use\n\nThis command compares a subject with the preset:\n\n"
        f"{code(f'mpsim validate blocks SUBJECT --format {name}', 'text')}"
        "[Block formats](../../block_formats.md) explains the stages and the block formats.\n"
    )


def _quantisers_overview() -> str:
    rows = [(f"[{name}]({name}.md)", plain(preset.source)) for name, preset in QUANTISERS.items()]
    return (
        "# Presets of quantisers\n\nA preset is how a block format or a published system quantises groups of numbers "
        "that share a scale. [`quantizer_of`](../../api/mpsim.blocks.md) and `mpsim validate blocks --format` take its "
        "name.\n\n" + table(("preset", "source"), rows)
    )
