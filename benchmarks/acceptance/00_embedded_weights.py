"""Do the embedded weights help with handwritten digits?

    python benchmarks/acceptance/00_embedded_weights.py

Over three seeds, on the splits and with the head training of `python -m resnet_np.finetune`, the
frozen embedded trunk against

    logistic regression on the 64 raw pixels, as they are or standardised, whichever is better;
    frozen trunks of the same network with random weights, which the better of two heads gets to
    judge, ours or a converged logistic regression on standardised features:
        bn3 gammas (last of each block) 0, as our networks start, or 1
        batch-norm statistics raw (mean 0, variance 1) or calibrated in a pass over the images

Wherever there is a choice, the rivals get what is better on the test images. Exits with 1 unless
the embedded weights win for each seed. About five minutes.

Random trunks know less the deeper they are: with gamma 0 only the shortcuts are left, whose 1x1
convolutions with stride 2 end at the top left pixel of layer1; with gamma 1 and calibrated
statistics each block mixes in as much noise as it keeps of the image.
"""

import sys
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from resnet_np import Tensor, no_grad
from resnet_np.data.loader import Images, split_batches
from resnet_np.models import ResNet
from resnet_np.nn import BatchNorm2d
from resnet_np.training.features import CachedInputs
from resnet_np.training.fit import Fit
from resnet_np.training.options import Options
from resnet_np.training.setup import Source, build_model, find_source, load_splits

SEEDS = (0, 1, 2)
BATCH = 256
EMBEDDED, PIXELS = "embedded weights", "logistic regression, pixels"
RIVALS = {
    f"random, gamma {gamma}, {'calibrated' if calibrated else 'raw'}": (gamma, calibrated)
    for gamma in (0, 1)
    for calibrated in (False, True)
}
Features = Mapping[str, CachedInputs]


def pixel_accuracy(options: Options, source: Source) -> float:
    """Logistic regression on the digits as scikit-learn has them."""
    splits = load_splits(options, source.contract, image_size=8)  # their own size
    pixels, labels = {}, {}
    for name in ("train", "test"):
        labels[name] = splits[name].labels
        images = splits[name].read(np.arange(len(labels[name])))
        pixels[name] = images[..., 0].reshape(len(images), 64) * (16 / 255)  # [n, 8, 8] -> [n, 64]
    plain = LogisticRegression(max_iter=5000)
    models = (plain, make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)))
    return max(
        m.fit(pixels["train"], labels["train"]).score(pixels["test"], labels["test"])
        for m in models
    )


def random_model(
    source: Source, splits: Mapping[str, Images], options: Options, gamma: int, calibrated: bool
) -> ResNet:
    """The same network, as the seed initialises it."""
    classes = len(splits["train"].classes)
    model = ResNet(**source.config, num_classes=classes, seed=options.seed)
    for name, module in model.named_modules():
        if name.endswith("bn3") and isinstance(module, BatchNorm2d):
            module.weight.data[:] = gamma
    if calibrated:
        calibrate(model, source, splits["train"])
    return model


def calibrate(model: ResNet, source: Source, images: Images) -> None:
    """Make the running statistics the mean of those of the batches of one pass."""
    norms = [m for _, m in model.named_modules() if isinstance(m, BatchNorm2d)]
    model.train()
    with no_grad():
        for k, batch in enumerate(split_batches(np.arange(len(images.labels)), BATCH)):
            for norm in norms:
                norm.momentum = 1 / (k + 1)
            model(Tensor(source.contract.normalise(images.read(batch))), stop="fc")


def frozen_features(model: ResNet, source: Source, splits: Mapping[str, Images]) -> Features:
    """Freeze the trunk and compute the pooled features of all images.

    In batches, which is quicker than one image at a time, and the same but for rounding.
    """
    model.freeze_before("fc")
    cached = {}
    with no_grad():
        for name, images in splits.items():
            batches = split_batches(np.arange(len(images.labels)), BATCH)
            pixels = (source.contract.normalise(images.read(batch)) for batch in batches)
            features = np.concatenate([model(Tensor(x), stop="fc").data for x in pixels])
            cached[name] = CachedInputs(features, images.labels, "cpu")
    return cached


def head_accuracy(model: ResNet, features: Features, options: Options) -> float:
    """Train the head as the fine-tuning command does; the share of right answers on the test."""
    optimizer, order = options.make_optimizer(model), np.random.default_rng(options.seed)
    train, test = features["train"], features["test"]
    size, validation = options.batch_size, features["validation"]
    fit = Fit(model, optimizer, train, validation, start="fc", batch_size=size, order=order)
    fit.run(options.epochs)
    logits = fit.predict(test)
    return float((logits.argmax(axis=1) == test.labels).mean())


def regression_accuracy(features: Features) -> float:
    """A head trained to the end."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    model.fit(features["train"].features, features["train"].labels)
    return float(model.score(features["test"].features, features["test"].labels))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of everyone, for one seed of splits, initial values and batch order."""
    options = Options(seed=seed)
    source = find_source(options)
    splits = load_splits(options, source.contract, source.image_size)
    model, _ = build_model(source, len(splits["train"].classes), options)
    result = {
        EMBEDDED: head_accuracy(model, frozen_features(model, source, splits), options),
        PIXELS: pixel_accuracy(options, source),
    }
    for name, (gamma, calibrated) in RIVALS.items():
        model = random_model(source, splits, options, gamma, calibrated)
        features = frozen_features(model, source, splits)
        ours = head_accuracy(model, features, options)
        result[name] = max(ours, regression_accuracy(features))
    return result


def main() -> int:
    results = [measure(seed) for seed in SEEDS]
    table = Table("test accuracy", *(f"seed {seed}" for seed in SEEDS), "mean")
    for name in results[0]:
        figures = [result[name] for result in results]
        table.add_row(name, *(f"{f:.4f}" for f in [*figures, float(np.mean(figures))]))
    Console().print(table)
    rivals = [max(v for name, v in result.items() if name != EMBEDDED) for result in results]
    return 0 if all(r[EMBEDDED] > best for r, best in zip(results, rivals, strict=True)) else 1


if __name__ == "__main__":
    sys.exit(main())
