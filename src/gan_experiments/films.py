"""Films of frames that are arrays of bytes, as GIF or MP4 files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.metrics.needs import require_package

Frame = NDArray[np.uint8]

MP4_SIDE = 512
"""Pixels of the longer side up to which MP4 frames are enlarged by a whole factor: colours are stored at half of it."""


def save_film(path: Path, frames: Iterable[Frame], rate: int) -> None:
    """Write frames (h, w, 1 or 3) of equal size, `rate` a second, as .gif (endless) or .mp4, whole or not at all.

    Raises UserError for other endings, and for .mp4 without the package av.
    """
    check_film(path, rate)
    content = FORMATS[path.suffix](frames, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def check_film(path: Path, rate: int) -> None:
    """UserError where `save_film` would raise one, before the frames are made."""
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: a film is a file ending in {' or '.join(FORMATS)}")
    if not 1 <= rate <= 100:
        raise UserError(f"{rate} frames a second: expected 1 to 100")
    if path.suffix == ".mp4":
        require_package(f"{path}: an .mp4 film", "av", "av", "video")


def gif(frames: Iterable[Frame], rate: int) -> bytes:
    """A GIF, which holds times in hundredths of a second; equal frames one after the other become a longer one."""
    from PIL import Image

    first, *others = (Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
    return buffer.getvalue()


def mp4(frames: Iterable[Frame], rate: int) -> bytes:
    """H.264 in an MP4 container, of even sides."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = None
        for frame in frames:
            picture = enlarged(frame)
            if stream is None:
                stream = container.add_stream("h264", rate=rate, options={"crf": "16"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Iterable[Frame], int], bytes]] = {".gif": gif, ".mp4": mp4}


def enlarged(frame: Frame) -> Frame:
    """The frame in colour, by a whole factor larger if it is small, its last row and column repeated to even sides."""
    factor = max(1, MP4_SIDE // max(frame.shape[:2]))
    large = np.repeat(np.repeat(frame, factor, 0), factor, 1)
    even = np.pad(large, ((0, large.shape[0] % 2), (0, large.shape[1] % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(np.broadcast_to(even, (*even.shape[:2], 3)))
