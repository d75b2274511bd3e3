#!/usr/bin/env bash
# Install what tests/compare and the benchmarks compare with: PyTorch, torchvision and Keras.
#
#     bash tests/compare/install.sh [PYTHON]       the interpreter to install for; default: python3
#
# PyTorch is its build without CUDA, a tenth of the size of the other. PyTorch keeps it in an index
# of its own; where pip does not know that one yet, name it in PIP_EXTRA_INDEX_URL.
# torchvision goes in without its dependencies: it would bring a PyTorch of its own choice. Its
# compiled part may then not load, which tests/compare/torchvision_shim.py puts right.
set -euo pipefail
python=${1:-python3}
"$python" -m pip install -q "torch==2.13.0+cpu"
"$python" -m pip install -q --no-deps "torchvision==0.28.0"
"$python" -m pip install -q "keras>=3.10,<4"
