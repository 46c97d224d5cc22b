"""Records as lines in a terminal, as markdown and as charts; computes nothing."""
