"""Time the prediction of ResNet-50 at 224 pixels: images per second, and peak memory.

python benchmarks/resnet50_inference.py [--device gpu] [--json FILE] [--profile]
    [--against torch,torch-nchw,torch-compile,onnxruntime,openvino]
"""

import sys

from _whole_model import benchmark

from resnet_np.command import run_command

if __name__ == "__main__":
    description = __doc__.splitlines()[0]
    sys.exit(run_command(lambda: benchmark("inference", description, batches=[1, 8])))
