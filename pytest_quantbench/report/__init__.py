"""Records as lines in a terminal, as markdown and as plots; computes nothing."""
