"""Runtimes that are given the network as an ONNX graph, and run it. They take images [N, C, H, W].

Both are told the shape of the images in advance, as their manuals advise for speed.
"""

from typing import Any, ClassVar

import numpy as np

from _engines.base import PIXELS, Call, Engine, Material


def channels_first(images: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> [N, C, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


class OnnxRuntime(Engine):
    """Microsoft's runtime on its own CPU kernels."""

    tasks: ClassVar[tuple[str, ...]] = ("inference",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    package: ClassVar[str] = "onnxruntime"

    def inference(self, material: Material, batch: int) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self.threads
        for name, size in (("N", batch), ("H", PIXELS), ("W", PIXELS)):
            options.add_free_dimension_override_by_name(name, size)
        session = onnxruntime.InferenceSession(
            material.graph, options, providers=["CPUExecutionProvider"]
        )
        self.setting = (
            f"ORT_ENABLE_ALL, ORT_SEQUENTIAL, intra_op_num_threads={self.threads}, "
            "CPUExecutionProvider, shapes fixed"
        )
        images = {session.get_inputs()[0].name: channels_first(material.read_images(batch))}
        return lambda: session.run(None, images)[0]


class OpenVino(Engine):
    """Intel's runtime. Where a CPU has bfloat16, it would use that if nobody said otherwise."""

    tasks: ClassVar[tuple[str, ...]] = ("inference",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    package: ClassVar[str] = "openvino"

    def inference(self, material: Material, batch: int) -> Call:
        import openvino

        core = openvino.Core()
        model = core.read_model(material.graph)
        model.reshape([batch, 3, PIXELS, PIXELS])
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads,
        }
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        listed = ", ".join(f"{key}={value}" for key, value in settings.items())
        self.setting = f"{listed}, shapes fixed"
        images = openvino.Tensor(channels_first(material.read_images(batch)))

        def step() -> Any:
            request.infer([images], share_inputs=True)
            return request.get_output_tensor(0).data

        return step
