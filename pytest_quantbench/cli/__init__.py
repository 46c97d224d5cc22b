"""The command `quantbench` and its verbs."""
