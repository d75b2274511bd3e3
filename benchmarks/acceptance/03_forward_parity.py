"""Do real ImageNet weights give torchvision's logits here?

    python benchmarks/acceptance/03_forward_parity.py [DATA]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). 100 photographs, one
for every tenth class, go through torchvision's preprocessing once and then through both networks in
evaluation mode, float32. The relative error over each image's logits must be at most 1e-5, the top
five the same in the same order. Exits with 1 if not. A minute or two; needs torch and torchvision.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import resnet_np as rnp
from resnet_np import Tensor
from resnet_np.models.pretrained import load_weights

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "compare")]
import torch  # noqa: E402
from parity import channels_last, relative_error  # noqa: E402
from torch_bridge import images_to_torch  # noqa: E402
from torchvision_shim import torchvision  # noqa: E402

WEIGHTS = "weights/resnet50_pqf_large_decoded.npz"
BOUND = 1e-5
BATCH = 10


def preprocess(path: Path) -> np.ndarray:
    """torchvision's own steps for its ImageNet weights: float32 [3, 224, 224]."""
    image = Image.open(path).convert("RGB")  # some are grey
    bilinear = torchvision.transforms.InterpolationMode.BILINEAR
    functional = torchvision.transforms.functional
    image = functional.resize(image, 256, bilinear, antialias=True)
    x = functional.to_tensor(functional.center_crop(image, 224))
    return functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).numpy()


def our_logits(weights: Path, images: np.ndarray) -> np.ndarray:
    model = rnp.resnet50()
    print(load_weights(model, weights))
    model.eval()
    with rnp.no_grad():
        batches = [model(Tensor(images[i : i + BATCH])).data for i in range(0, len(images), BATCH)]
    return np.concatenate(batches)


def torchvision_logits(weights: Path, images: np.ndarray) -> np.ndarray:
    """The file's own arrays, as they are: it has torchvision's names and layout."""
    network = torchvision.models.resnet50().eval()
    with np.load(weights) as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    absent = network.load_state_dict(state, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in absent), absent
    with torch.no_grad():
        batches = [
            network(images_to_torch(images[i : i + BATCH])).numpy()
            for i in range(0, len(images), BATCH)
        ]
    return np.concatenate(batches)


def true_classes(data: Path, paths: list[Path]) -> np.ndarray:
    """A file's name begins with its class's WordNet number."""
    table = json.loads((data / "images" / "imagenet_class_index.json").read_text())
    index = {wnid: int(i) for i, (wnid, _) in table.items()}
    return np.array([index[path.name.split("_")[0]] for path in paths])


def print_accuracy(name: str, top5: np.ndarray, truth: np.ndarray) -> None:
    hits = top5 == truth[:, None]
    print(f"{name:12} top-1 {hits[:, 0].mean():.1%}, top-5 {hits.any(axis=1).mean():.1%}")


def main() -> int:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RESNET_NP_TEST_DATA", ""))
    paths = sorted((data / "images" / "imagenet-100").glob("*.JPEG"))
    if not paths or not (data / WEIGHTS).exists():
        print(f"no {WEIGHTS} or no images in {str(data)!r}: give the data folder", file=sys.stderr)
        return 2
    images = np.ascontiguousarray(channels_last(np.stack([preprocess(path) for path in paths])))
    ours = our_logits(data / WEIGHTS, images)
    theirs = torchvision_logits(data / WEIGHTS, images)

    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    our_top5, their_top5 = (np.argsort(-logits)[:, :5] for logits in (ours, theirs))
    differing = int((our_top5 != their_top5).any(axis=1).sum())
    truth = true_classes(data, paths)
    print(f"{len(paths)} images; relative error of an image's logits: at most {max(errors):.1e}, "
          f"in the median {np.median(errors):.1e} (allowed {BOUND:.0e})")  # fmt: skip
    print(f"images whose top five differ: {differing} (allowed 0)")
    print_accuracy("resnet_np", our_top5, truth)
    print_accuracy("torchvision", their_top5, truth)
    return 0 if max(errors) <= BOUND and differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
