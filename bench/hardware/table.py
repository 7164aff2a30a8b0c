"""``python -m bench.hardware.table FOLDER`` prints a recorded manifest as the Markdown table of docs/hardware.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(manifest: dict[str, Any]) -> Iterator[str]:
    """Yields a line for each subject: its fitted rule or accumulator, and how many results differ from it."""
    yield f"{manifest['device']}, driver {manifest['driver']}, {manifest['nvcc']}, PyTorch {manifest['torch']}:"
    yield ""
    yield "| subject | follows | inputs or results | differ |"
    yield "|---|---|---|---|"
    for entry in manifest["subjects"]:
        if "fitted" not in entry:
            yield f"| `{entry['name']}` | not recorded: {entry['error'].splitlines()[0]} | | |"
            continue
        cast = entry["kind"] == "cast"
        count = entry["inputs"] if cast else entry["results"]
        tried = "all 2^32" if count == 2**32 else f"all {count:,}" if cast and entry["exhaustive"] else f"{count:,}"
        names = ", ".join(f"`{name}`" for name in entry["presets" if cast else "names"])
        nearest = "" if entry["equal"] else "equal to none; nearest: "
        order = "" if cast or entry["order"] == "rising k" else f"; {entry['order']}"
        more = f" ({names})" if names else ""
        yield f"| `{entry['name']}` | {nearest}{entry['fitted']}{more}{order} | {tried} | {entry['mismatches']:,} |"


if __name__ == "__main__":
    print("\n".join(rows(json.loads((Path(sys.argv[1]) / "manifest.json").read_text()))))
