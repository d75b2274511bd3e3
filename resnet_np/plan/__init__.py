"""The inference plan: a forward pass that nobody will go back through, made ready to run fast.

Layer by layer, each op writes its result to memory and the next one reads it again. Where nothing
is learnt, more can be known in advance: batch norm with fixed statistics is part of the convolution
in front of it, and so are the shortcut and the ReLU part of its last step; the weights can lie as
the kernel reads them; and a result that nobody needs any more leaves its memory to a later one.

Reading order: trace.py (what happens in a forward pass), patterns.py (which ops become one step),
steps.py (what a step does), buffers.py (where results lie), plan.py (running it, for batches of any
size), repeating.py (on a GPU: as one launch), cache.py (which plans a model has, and when they are
out of date).
"""

from resnet_np.plan.cache import Part, PlanCache
from resnet_np.plan.plan import Plan, Timing

__all__ = ["Part", "Plan", "PlanCache", "Timing"]
