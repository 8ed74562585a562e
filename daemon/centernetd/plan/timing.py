"""The builder's timing cache, kept for the next build on the same GPU."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from centernetd.errors import CenternetdError
from centernetd.model import sealed
from centernetd.plan import trust

log = logging.getLogger(__name__)


@contextmanager
def kept_timings(config: Any, path: Path) -> Iterator[None]:  # noqa: ANN401 - a builder's config
    """Load the timing cache at ``path`` into ``config``, and save it with new entries on exit.

    TensorRT itself rejects timings of another version or GPU. Without them a build only takes
    longer, so no error here makes it fail.
    """
    if not any(_attach(config, content) for content in (_stored(path), b"")):
        log.info("TensorRT takes no timing cache")
    yield
    timings = config.get_timing_cache()
    content = timings.serialize() if timings is not None else None
    if content is None:
        return
    try:
        sealed.write(path, bytes(memoryview(content)), {})
    except CenternetdError as error:
        log.warning("%s", error)


def _stored(path: Path) -> bytes:
    try:
        content, _ = sealed.read(path, trust.refuse_foreign_file)
    except CenternetdError as error:
        log.debug("%s: %s", path, error)
        return b""
    return content


def _attach(config: Any, content: bytes) -> bool:  # noqa: ANN401
    timings = config.create_timing_cache(content)
    return timings is not None and bool(config.set_timing_cache(timings, False))
