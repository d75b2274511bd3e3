"""The one device."""

from cupy.cuda import runtime


class Device:
    def __init__(self, device: int | None = None) -> None:
        self.id = runtime.getDevice() if device is None else int(device)

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __enter__(self) -> "Device":
        self.use()
        return self

    def __exit__(self, *error: object) -> None:
        """There is no other device to go back to."""

    def use(self) -> None:
        runtime.setDevice(self.id)

    def synchronize(self) -> None:
        self.use()
        runtime.deviceSynchronize()

    @property
    def compute_capability(self) -> str:
        properties = runtime.getDeviceProperties(self.id)
        return f"{properties['major']}{properties['minor']}"

    @property
    def mem_info(self) -> tuple[int, int]:
        return runtime.memGetInfo()

    @property
    def cublas_handle(self) -> int:
        return get_cublas_handle()


def get_device_id() -> int:
    return runtime.getDevice()


def get_cublas_handle() -> int:
    runtime.getDevice()
    from cupy_backends.cuda.libs import cublas  # which may be missing

    return cublas.HANDLE
