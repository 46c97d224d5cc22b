"""T3: which questions a model answers rightly, by the likelihood of its choices or by what it writes."""
