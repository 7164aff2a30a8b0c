"""The documents say what the code does."""

from pathlib import Path

from mpsim.kernels import contract

ROOT = Path(__file__).parent.parent


def test_semantics_lists_every_kernel_as_the_contract_has_it() -> None:
    document = (ROOT / "docs/semantics.md").read_text()
    assert contract.write_into(document) == document, "run 'nox -s docs'"
    assert all(f"**`{name}`**" in document for name in contract.CONTRACT)
