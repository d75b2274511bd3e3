"""Weights averaged over the last steps, which often predict better than those of the last one."""

from collections.abc import Iterator
from contextlib import contextmanager

from resnet_np.kernels import Array, get_array_module, is_floating
from resnet_np.nn import Module


class MovingAverage:
    """An exponential moving average (EMA) of all that a model's `state_dict` holds.

        average = decay * average + (1 - decay) * value

    after each step; statistics of batch norm are averaged, too. In the first steps the decay is
    smaller, (1 + n) / (10 + n) for the n-th, so that the first, random weights are soon forgotten:
    Tan & Le 2019, "EfficientNet", by TensorFlow's ExponentialMovingAverage with `num_updates`.
    Polyak & Juditsky 1992 show why averages do well.
    """

    def __init__(self, model: Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage: decay must be at least 0 and below 1, not {decay!r}")
        self.model, self.decay, self.updates = model, decay, 0
        self.average: dict[str, Array] = {n: v.copy() for n, v in model.state_dict().items()}

    def update(self) -> None:
        """Take the weights of now into account."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in self.model.state_dict().items():
            average = self.average[name]
            if is_floating(average.dtype):
                average += (value - average) * average.dtype.type(1 - decay)
            else:
                average[...] = value

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own again."""
        own = {name: value.copy() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def state_dict(self) -> dict[str, Array | int]:
        """What `load_state_dict` needs to go on: the averages by name, and how many updates."""
        return {**self.average, "updates": self.updates}

    def load_state_dict(self, saved: dict[str, Array | int]) -> None:
        """The inverse of `state_dict`, for the same model. Raises KeyError or ValueError if not."""
        for name, average in self.average.items():
            average[...] = get_array_module(average).asarray(saved[name])
        self.updates = int(saved["updates"])
