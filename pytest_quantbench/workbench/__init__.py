"""For who writes a quantizer or an engine: matrices and models whose results are known, conformance, comparisons."""
