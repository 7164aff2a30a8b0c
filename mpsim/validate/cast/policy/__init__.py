"""What a cast's policy says besides mode and overflow: infinity, NaN, zeros and subnormal numbers."""
