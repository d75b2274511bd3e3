#!/usr/bin/env bash
# Install what tests/compare and the benchmarks compare with: PyTorch, torchvision, timm, Hugging
# Face transformers, Keras, ONNX and its runtime, OpenVINO.
#
#     bash tests/compare/install.sh [PYTHON]       the interpreter to install for; default: python3
#
# PyTorch is its build without CUDA, a tenth of the size of the other. PyTorch keeps it in an index
# of its own; where pip does not know that one yet, name it in PIP_EXTRA_INDEX_URL.
# torchvision and timm go in without their dependencies: these would bring a PyTorch of their own
# choice, and what else timm needs comes with transformers. torchvision's compiled part may then
# not load, which tests/compare/torchvision_shim.py puts right.
set -euo pipefail
python=${1:-python3}
"$python" -m pip install -q "torch==2.13.0+cpu"
"$python" -m pip install -q --no-deps "torchvision==0.28.0" "timm>=1.0.9,<2"
"$python" -m pip install -q "transformers>=5,<6" "keras>=3.10,<4" "onnx>=1.18" "onnxruntime>=1.20" \
  "openvino>=2025"
