"""resnet_np: a ResNet-50 engine in NumPy that can be read from the first line to the last."""

from pathlib import Path as _Path

# In a checkout kernels/ and weights/ lie beside this folder, not in it: look for them there, too.
if not _Path(__file__).with_name("kernels").exists():
    _setup = _Path(__file__).parents[1] / "setup.cfg"
    if _setup.exists() and "resnet_np.kernels = kernels" in _setup.read_text():
        __path__.append(str(_setup.parent))

from resnet_np import models, nn, optim
from resnet_np.autograd import (
    GradientError,
    Tensor,
    avg_pool2d,
    batch_norm,
    check_gradients,
    conv2d,
    cross_entropy,
    dropout,
    fixed_batch_norm,
    flatten,
    global_avg_pool,
    linear,
    max_pool2d,
    no_grad,
    relu,
    softmax,
    upsample_nearest,
)
from resnet_np.errors import UserError
from resnet_np.models import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152

__version__ = "0.1.0"

__all__ = [
    "GradientError", "ResNet", "Tensor", "UserError", "avg_pool2d", "batch_norm",
    "check_gradients", "conv2d", "cross_entropy", "dropout", "fixed_batch_norm", "flatten",
    "global_avg_pool", "linear", "max_pool2d", "models", "nn", "no_grad", "optim", "relu",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "softmax", "upsample_nearest",
]  # fmt: skip
