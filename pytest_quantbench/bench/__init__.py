"""One model under test: which samples are needed, taken once for all, judged and recorded."""
