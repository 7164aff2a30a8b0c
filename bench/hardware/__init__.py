"""Records casts and dot products of real hardware as vector packs, with the rules that were fitted to them."""
