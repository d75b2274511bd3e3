"""Write resnet_shapes.json: name -> shape of every tensor of torchvision's ResNets.

    python tests/golden/make_resnet_shapes.py

`num_batches_tracked`, a counter that we do not have, is left out.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "compare"))
from torchvision_shim import torchvision  # noqa: E402

with torch.device("meta"):
    shapes = {
        f"resnet{depth}": {
            name: list(tensor.shape)
            for name, tensor in getattr(torchvision.models, f"resnet{depth}")().state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        for depth in (18, 34, 50, 101, 152)
    }
(HERE / "resnet_shapes.json").write_text(json.dumps(shapes) + "\n")
