#!/bin/sh
# One check of a CUDA machine that has PyTorch, Triton, Transformers, ml_dtypes and this checkout: at most 8 minutes, a
# JSON file and a table in $OUT, or in results/. With scipy, ratios have intervals. Arguments go to tools/device_check.py:
# `tools/device_check.sh --device cpu --small`.
cd "$(dirname "$0")/.." || exit 2
if ! command -v timeout >/dev/null; then
    PYTHONPATH="$PWD" exec "${PYTHON:-python3}" tools/device_check.py "$@"
fi
PYTHONPATH="$PWD" exec timeout 480 "${PYTHON:-python3}" tools/device_check.py "$@"
