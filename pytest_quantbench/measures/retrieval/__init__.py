"""Whether a model still finds what was told long ago: needles and chains of them in filler, asked for at the end."""
