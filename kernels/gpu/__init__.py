"""The kernels for NVIDIA cards: what `kernels.of` gives for CuPy's arrays.

    compiling.py     CUDA C++ to machine code, at first use; numbers.cuh: what all .cu begin with
    convolution.py   im2col.cu and matrix products; matmul.py: those, by cuBLAS; linear layers
    fused.py         convolutions whose weights are made ready once; fused.cu: what follows them
    streams.py       the stream of the inference plans, and CUDA graphs of what they launch
    norm.py, pool.py, loss.py, elementwise.py, optim.py
                     what is bound by memory, each with its .cu: as few passes as there can be
    arrays.py        where results lie; packs.py: numbers that move 16 bytes at a time

Each kernel has its slow twin of the same name in `resnet_np.kernels.array` and `reference`. CuPy is
imported by the first array that is on a card, never by this package.
"""

from resnet_np.kernels.gpu.convolution import conv2d, conv2d_gw, conv2d_gx
from resnet_np.kernels.gpu.elementwise import add, relu, relu_gx
from resnet_np.kernels.gpu.loss import (
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_gx,
)
from resnet_np.kernels.gpu.matmul import linear, linear_gw, linear_gx
from resnet_np.kernels.gpu.norm import (
    batch_norm,
    batch_norm_g,
    bias_gb,
    fixed_batch_norm,
    fixed_batch_norm_g,
)
from resnet_np.kernels.gpu.optim import adam_step, rmsprop_step, sgd_step, unscale_step
from resnet_np.kernels.gpu.pool import (
    avg_pool,
    avg_pool_gx,
    global_avg_pool,
    global_avg_pool_gx,
    max_pool,
    max_pool_gx,
    upsample_nearest,
    upsample_nearest_gx,
)

__all__ = [
    "adam_step", "add", "avg_pool", "avg_pool_gx", "batch_norm", "batch_norm_g", "bias_gb",
    "conv2d", "conv2d_gw", "conv2d_gx", "fixed_batch_norm", "fixed_batch_norm_g",
    "global_avg_pool", "global_avg_pool_gx", "linear", "linear_gw", "linear_gx", "max_pool",
    "max_pool_gx", "relu", "relu_gx", "rmsprop_step", "sgd_step", "softmax",
    "softmax_cross_entropy", "softmax_cross_entropy_gx", "unscale_step", "upsample_nearest",
    "upsample_nearest_gx",
]  # fmt: skip
