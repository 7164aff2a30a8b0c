"""What real hardware does: its casts and dot products recorded as vector packs, with what was fitted to them."""
