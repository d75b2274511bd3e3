"""Every op and module passes the gradient check, and every broken backward pass fails it.

    python benchmarks/acceptance/02_gradients.py

Runs tests/gradcheck, whose first test fails if a public op or module is not among those checked,
and prints each check; then a layer of a real network.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    tests = [sys.executable, "-m", "pytest", "-v", "--no-header", "tests/gradcheck"]
    layer = ["resnet_np.gradcheck", "--model", "resnet50", "--layer", "layer3.0.conv2"]
    first = subprocess.run(tests, cwd=ROOT).returncode
    second = subprocess.run([sys.executable, "-m", *layer], cwd=ROOT).returncode
    return 1 if first or second else 0


if __name__ == "__main__":
    sys.exit(main())
