"""Tensors, the tape, and the ops that can be differentiated: one file for each family.

Reading order: tensor.py (the tape), arithmetic.py (the shortest ops), conv.py, norm.py, pool.py,
activation.py, loss.py, and gradcheck.py, which checks them all.
"""

from resnet_np.autograd.activation import dropout, relu
from resnet_np.autograd.arithmetic import flatten
from resnet_np.autograd.conv import conv2d, linear
from resnet_np.autograd.gradcheck import GradientError, check_gradients
from resnet_np.autograd.loss import cross_entropy, softmax
from resnet_np.autograd.norm import batch_norm, fixed_batch_norm
from resnet_np.autograd.pool import avg_pool2d, global_avg_pool, max_pool2d, upsample_nearest
from resnet_np.autograd.tensor import Op, Tensor, no_grad

__all__ = [
    "GradientError",
    "Op",
    "Tensor",
    "avg_pool2d",
    "batch_norm",
    "check_gradients",
    "conv2d",
    "cross_entropy",
    "dropout",
    "fixed_batch_norm",
    "flatten",
    "global_avg_pool",
    "linear",
    "max_pool2d",
    "no_grad",
    "relu",
    "softmax",
    "upsample_nearest",
]
