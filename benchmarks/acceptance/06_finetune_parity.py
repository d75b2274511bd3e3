"""Fine-tuning on real photographs agrees with PyTorch, the cache changes nothing, layer4 helps.

    python benchmarks/acceptance/06_finetune_parity.py [DATA]

DATA is the folder of real weights and images (default: RESNET_NP_TEST_DATA). Needs torch and
torchvision. About twenty minutes on 2 cores.

1. trashnet and sign-language-digits, frozen trunk, new head, 10 epochs: here through
   `resnet_np.finetune`; in PyTorch with torchvision's network and transforms, the same first head,
   order of batches and optimizer. At most one test prediction in a hundred may differ.
2. trashnet, 3 epochs, with and without the feature cache: parameters identical, bit for bit.
3. trashnet with --unfreeze layer4 --recalibrate: not below the accuracy of the head alone.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from resnet_np.data.loader import FolderImages, epoch_order, split_batches
from resnet_np.training.checkpoint import load_checkpoint, restore_model
from resnet_np.training.features import ImageInputs, Trunk
from resnet_np.training.finetuning import finetune
from resnet_np.training.loop import predict_logits
from resnet_np.training.options import Options
from resnet_np.training.setup import build_model, find_source, load_splits

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "compare"))

WEIGHTS = "weights/resnet50_pqf_large_decoded.npz"
FOLDERS = ("trashnet", "sign-language-digits")
EPOCHS = 10
ALLOWED = 0.01


def main() -> int:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RESNET_NP_TEST_DATA", ""))
    if not (data / WEIGHTS).exists():
        print(f"no {WEIGHTS} in {str(data)!r}: give the data folder", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        passed = [parity(data, name, Path(scratch)) for name in FOLDERS]
        passed.append(cache_changes_nothing(data, Path(scratch)))
        passed.append(layer4_helps(data, Path(scratch)))
    return 0 if all(passed) else 1


def options_for(data: Path, name: str, out: Path, **changes: object) -> Options:
    """The command line `--data ... --model resnet50 --weights ...`, with changes."""
    arguments: dict[str, object] = {
        "data": str(data / "images" / name),
        "model": "resnet50",
        "weights": str(data / WEIGHTS),
        "epochs": EPOCHS,
        "out": str(out),
    }
    return Options(**(arguments | changes))  # type: ignore[arg-type]


def run(options: Options) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Fine-tune; (the final arrays, the test logits as the checkpoint predicts them, labels)."""
    finetune(options, None, Console(quiet=True))
    assert options.out is not None
    checkpoint = load_checkpoint(Path(options.out) / "checkpoint.npz")
    model = restore_model(checkpoint)
    test = load_splits(options, checkpoint.contract, checkpoint.record["image_size"])["test"]
    inputs = ImageInputs(test, Trunk(model, "fc", checkpoint.contract, "cpu"))
    return checkpoint.model, predict_logits(model, "fc", inputs, options.batch_size), test.labels


def parity(data: Path, name: str, scratch: Path) -> bool:
    options = options_for(data, name, scratch / name)
    began = time.monotonic()
    _, ours, labels = run(options)
    middle = time.monotonic()
    theirs = run_in_torch(options)
    end = time.monotonic()
    differing = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    share = differing / len(labels)
    print(
        f"{name}: {len(labels)} test images, {EPOCHS} epochs; test accuracy "
        f"{accuracy(ours, labels):.4f} here ({middle - began:.0f} s), "
        f"{accuracy(theirs, labels):.4f} in PyTorch ({end - middle:.0f} s); "
        f"{differing} predictions differ ({share:.2%}, allowed {ALLOWED:.0%}); "
        f"largest difference of a logit {abs(ours - theirs).max():.1e} of {abs(theirs).max():.1f}"
    )
    return share <= ALLOWED


def run_in_torch(options: Options) -> np.ndarray:
    """The same run with torch and torchvision alone; [N, K] logits of the test images."""
    import torch
    from torch_bridge import copy_to_torch
    from torchvision_shim import torchvision

    source = find_source(options)
    splits = load_splits(options, source.contract, source.image_size)
    classes = len(splits["train"].classes)
    network = torchvision.models.resnet50(num_classes=classes)
    copy_to_torch(build_model(source, classes, options)[0], network)
    head, network.fc = network.fc, torch.nn.Identity()
    network.eval()

    def features(images: FolderImages) -> torch.Tensor:
        """Every image through torchvision's own transforms and the frozen trunk."""
        from PIL import Image, ImageOps
        from torchvision.transforms import v2

        transform = v2.Compose(
            [
                v2.Resize(256),
                v2.CenterCrop(224),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        found = []
        with torch.no_grad():
            for chunk in np.array_split(np.arange(len(images.paths)), len(images.paths) // 8):
                # The right way up, as here: a few of the photographs carry a camera's orientation.
                photos = [ImageOps.exif_transpose(Image.open(images.paths[i])) for i in chunk]
                batch = [transform(photo.convert("RGB")) for photo in photos]
                found.append(network(torch.stack(batch)))
        return torch.cat(found)

    optimizer = torch.optim.Adam(head.parameters(), lr=options.learning_rates()[1])
    train, test = splits["train"], splits["test"]
    assert isinstance(train, FolderImages) and isinstance(test, FolderImages)
    x, labels = features(train), torch.from_numpy(train.labels)
    rng = np.random.default_rng(options.seed)
    for _ in range(EPOCHS):
        for batch in split_batches(epoch_order(rng, len(labels)), options.batch_size):
            loss = torch.nn.functional.cross_entropy(head(x[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return head(features(test)).numpy()


def cache_changes_nothing(data: Path, scratch: Path) -> bool:
    cached, _, _ = run(options_for(data, "trashnet", scratch / "cached", epochs=3))
    uncached, _, _ = run(options_for(data, "trashnet", scratch / "uncached", epochs=3, cache=False))
    differing = [name for name, a in cached.items() if a.tobytes() != uncached[name].tobytes()]
    print(
        f"trashnet, 3 epochs, cached and uncached: {len(cached) - len(differing)} of {len(cached)} "
        f"arrays are identical, bit for bit"
    )
    return not differing


def layer4_helps(data: Path, scratch: Path) -> bool:
    _, head, labels = run(options_for(data, "trashnet", scratch / "head"))
    _, tail, _ = run(
        options_for(data, "trashnet", scratch / "layer4", unfreeze="layer4", recalibrate=True)
    )
    before, after = accuracy(head, labels), accuracy(tail, labels)
    print(f"trashnet: test accuracy {before:.4f} with the head alone, {after:.4f} with layer4")
    return after >= before


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    sys.exit(main())
