"""Kernels for a CPU, which LLVM compiles for the one that it finds, each in a tenth of a second when first needed.

A kernel is written in Python as a program that writes the machine's: `writing` has its words, `tiled_job` what all have
in common, and each grid a file. Rows of a matrix lie in the lanes of vectors, so that one stream of memory is read.
"""
