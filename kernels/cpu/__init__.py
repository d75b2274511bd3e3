"""The kernels for float32 numbers on the CPU, compiled by Numba: what `kernels.of` gives for them.

    microkernel.py   the loop in which most of the time is spent; vectors.py is its vocabulary
    conv.py          convolution around it, winograd.py another way for 3x3
    conv_gw.py       back to the weights, winograd_gw.py another way for 3x3
    convolution.py   which of them when; fused.py with weights that are packed once
    norm.py, pool.py, windows.py, optim.py   what is bound by memory: as few passes as there can be
    target.py        what the processor has; tasks.py, compiling.py: threads, and the disk cache
    arrays.py        where results lie: memory is used again

Each kernel has its slow twin of the same name in `resnet_np.kernels.array` and `reference`. Those
that would gain nothing here are the array's own. Nothing imports this package before a float32
array meets a kernel, because Numba takes long to import.
"""

from resnet_np.kernels.array import (
    global_avg_pool_gx,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_gx,
    unscale_step,
    upsample_nearest,
    upsample_nearest_gx,
)
from resnet_np.kernels.cpu.compiling import COMPILED
from resnet_np.kernels.cpu.conv_gw import bias_gb, linear_gw
from resnet_np.kernels.cpu.convolution import conv2d, conv2d_gw, conv2d_gx, linear, linear_gx
from resnet_np.kernels.cpu.norm import (
    add,
    batch_norm,
    batch_norm_g,
    fixed_batch_norm,
    fixed_batch_norm_g,
    relu,
    relu_gx,
)
from resnet_np.kernels.cpu.optim import adam_step, rmsprop_step, sgd_step
from resnet_np.kernels.cpu.pool import (
    avg_pool,
    avg_pool_gx,
    global_avg_pool,
    max_pool,
    max_pool_gx,
)

__all__ = [
    "COMPILED", "adam_step", "add", "avg_pool", "avg_pool_gx", "batch_norm", "batch_norm_g",
    "bias_gb", "conv2d", "conv2d_gw", "conv2d_gx", "fixed_batch_norm", "fixed_batch_norm_g",
    "global_avg_pool", "global_avg_pool_gx", "linear", "linear_gw", "linear_gx", "max_pool",
    "max_pool_gx", "relu", "relu_gx", "rmsprop_step", "sgd_step", "softmax",
    "softmax_cross_entropy", "softmax_cross_entropy_gx", "unscale_step", "upsample_nearest",
    "upsample_nearest_gx",
]  # fmt: skip
