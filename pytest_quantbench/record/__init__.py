"""What is kept of a cell: the schema of its record, its figures, its folder, the verdict over a suite."""
