"""The kernels of the package, run by NumPy in float64 on the memory of the simulated GPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.fake_cuda import FakeCuda


JOB = np.dtype(
    [
        ("luma", "<u8"),
        ("chroma", "<u8"),
        ("luma_pitch", "<i4"),
        ("chroma_pitch", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("map", "<f4", 6),
        ("black", "<f4"),
        ("gain", "<f4"),
        ("r_v", "<f4"),
        ("g_u", "<f4"),
        ("g_v", "<f4"),
        ("b_u", "<f4"),
        ("wide", "<i4"),
        ("shown", "<i4"),
    ]
)
"""A job as the kernel reads it."""


def letterbox(cuda: "FakeCuda", jobs: int, rows: int, size: Sequence[int], count: int) -> None:
    """Do what `letterbox.cu` does for ``count`` jobs; touching no more memory than it may."""
    height, width = size
    for row, job in enumerate(cuda.device_view(jobs, count * JOB.itemsize).view(JOB)):
        if not job["shown"]:
            continue
        at = rows + row * height * width * 3
        target = cuda.device_view(at, height * width * 3).reshape(height, width, 3)
        luma, chroma = (_plane(cuda, job, name) for name in ("luma", "chroma"))
        if not cuda.lost:
            target[:] = np.floor(_pixels(job, luma, chroma, size) + 0.5)


def _plane(cuda: "FakeCuda", job: NDArray[np.void], name: str) -> NDArray[np.float64]:
    """Return luma [h, w] or chroma [ceil(h/2), ceil(w/2), 2] in units of 8 bits."""
    height, width = int(job["height"]), int(job["width"])
    shape = (height, width) if name == "luma" else (-(-height // 2), 2 * -(-width // 2))
    dtype = np.dtype("<u2" if job["wide"] else "u1")
    pitch, line = int(job[f"{name}_pitch"]), shape[1] * dtype.itemsize
    assert line <= pitch
    memory = cuda.device_view(int(job[name]), pitch * (shape[0] - 1) + line)
    if cuda.lost:
        return np.zeros(shape)
    lines = np.lib.stride_tricks.as_strided(memory, (shape[0], line), (pitch, 1))
    samples = np.ascontiguousarray(lines).view(dtype) / (256 if job["wide"] else 1)
    return samples if name == "luma" else samples.reshape(shape[0], -1, 2)


def _pixels(
    job: NDArray[np.void],
    luma: NDArray[np.float64],
    chroma: NDArray[np.float64],
    size: Sequence[int],
) -> NDArray[np.float64]:
    y, x = np.indices(size)
    m = job["map"].astype(float)
    from_x, from_y = m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]
    left, top = np.floor(from_x).astype(int), np.floor(from_y).astype(int)
    found = np.zeros((*size, 3))
    for right, lower in ((0, 0), (1, 0), (0, 1), (1, 1)):
        px, py = left + right, top + lower
        inside = (px >= 0) & (py >= 0) & (px < luma.shape[1]) & (py < luma.shape[0])
        px, py = px[inside], py[inside]
        share_x = np.abs(1 - right - (from_x - left))[inside]
        share = share_x * np.abs(1 - lower - (from_y - top))[inside]
        grey = job["gain"] * (luma[py, px] - job["black"])
        u, v = (chroma[py // 2, px // 2] - 128).T
        blue, red = grey + job["b_u"] * u, grey + job["r_v"] * v
        green = grey + job["g_u"] * u + job["g_v"] * v
        colours = np.clip(np.stack([blue, green, red], 1), 0, 255)
        found[inside] += share[:, None] * colours
    return found
