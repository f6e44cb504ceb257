# SPDX-License-Identifier: Apache-2.0
"""Which kind of array the caller has, and new ones of that kind."""

from typing import Any

from gru import _core


def kind(array: Any) -> str:
    """The package that the array's type comes from: "numpy", "torch", "cupy", "jax", ..."""
    root = type(array).__module__.partition(".")[0]
    return "jax" if root == "jaxlib" else root


def as_input(array: Any) -> Any:
    """The array itself, or a NumPy view of what only has the buffer protocol or DLPack."""
    if hasattr(array, "dtype") and hasattr(array, "shape"):
        return array
    import numpy

    if hasattr(array, "__dlpack__"):
        return numpy.from_dlpack(array)
    try:
        return numpy.asarray(memoryview(array))
    except TypeError:
        raise _core.Error(
            f"gru: expected an array (NumPy, CuPy, torch, or whatever has __dlpack__ or the buffer protocol), got {type(array)}"
        ) from None


def resolved(array: Any) -> Any:
    """The array, or a copy where torch's bit says that its numbers are to be negated: only memory is read."""
    negated = getattr(array, "is_neg", None)
    return array.resolve_neg() if negated is not None and negated() else array


def require_resolved(array: Any, where: str) -> None:
    """An array that is to be written has no such bit."""
    negated = getattr(array, "is_neg", None)
    if negated is not None and negated():
        raise _core.Error(
            f"{where}: expected memory that is read as it is written, got a tensor with torch's negative bit"
        )


def dtype_name(array: Any) -> str:
    """ "float32", ... for every kind of array."""
    return str(array.dtype).rpartition(".")[2]


def device_name(array: Any) -> str:
    """ "cpu" or "cuda:<n>": where the array's elements lie."""
    if not hasattr(array, "__dlpack_device__"):
        return "cpu"
    family, index = array.__dlpack_device__()
    return f"cuda:{index}" if int(family) in (2, 13) else "cpu"


def empty(like: Any, shape: tuple[int, ...]) -> Any:
    """A new array of like's kind, dtype and device."""
    package = kind(like)
    if package == "torch":
        return like.new_empty(shape)
    if package == "jax":
        raise _core.Error("gru: a JAX array cannot be written; pass NumPy's view of it (numpy.asarray)")
    if package == "cupy":
        import cupy

        with cupy.cuda.Device(like.device.id):
            return cupy.empty(shape, like.dtype)
    if package != "numpy" and hasattr(like, "__array_namespace__"):
        return like.__array_namespace__().empty(shape, dtype=like.dtype, device=like.device)
    import numpy

    return numpy.empty(shape, like.dtype)


def stream_pointer(stream: Any, like: Any) -> int | None:
    """cudaStream_t as a number: of what the caller named, or of what CuPy works on; torch's is found by the module."""
    if stream is None:
        if kind(like) == "cupy":
            import cupy

            return int(cupy.cuda.get_current_stream(like.device.id).ptr)
        return None
    if isinstance(stream, int):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in ("cuda_stream", "ptr", "handle"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    raise _core.Error(
        f"gru: stream: expected a number, a torch or CuPy stream, or whatever has __cuda_stream__, got {type(stream)}"
    )
