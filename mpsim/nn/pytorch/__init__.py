"""Imports networks of PyTorch (torch.nn.Module), which it does not need otherwise."""

from mpsim.nn.pytorch.importing import from_torch, is_torch, seeded
from mpsim.nn.pytorch.network import ImportedNetwork, to_torch_state

__all__ = ["ImportedNetwork", "from_torch", "is_torch", "seeded", "to_torch_state"]
