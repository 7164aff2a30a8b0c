"""Products that take C, factors, a bias or scales beside their operands."""
