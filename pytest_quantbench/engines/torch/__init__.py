"""The PyTorch engine: a model of Transformers, run decoder layer by decoder layer or whole, on CPU, CUDA and MPS."""
