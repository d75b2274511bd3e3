"""Time a training step of ResNet-50 at 224 pixels: images per second, and peak memory.

python benchmarks/resnet50_training.py [--device gpu] [--json FILE]
    [--against torch,torch-nchw] [--unfreeze layer4]
"""

import sys

from _whole_model import benchmark

from resnet_np.command import run_command

if __name__ == "__main__":
    description = __doc__.splitlines()[0]
    sys.exit(run_command(lambda: benchmark("training", description, batches=[8])))
