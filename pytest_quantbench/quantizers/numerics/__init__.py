"""The arithmetic that several methods share: grids, codebooks, lattices, rotations, error feedback, bit packing."""
