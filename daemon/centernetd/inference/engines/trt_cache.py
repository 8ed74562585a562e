"""Cache of the kernels that TensorRT-RTX compiles at run time, stored next to the plan."""

import logging
from pathlib import Path
from typing import Any

from centernetd.errors import CenternetdError
from centernetd.model import sealed
from centernetd.plan import trust

log = logging.getLogger(__name__)


class RuntimeCache:
    """The kernels that TensorRT-RTX compiled for one plan; full TensorRT has none.

    Without the cache, the first run of each shape compiles again, which takes seconds.
    """

    def __init__(self, plan: Path) -> None:
        self._path = plan.with_suffix(".runtime-cache")
        self._cache: Any = None

    def create_context(self, engine: Any) -> Any:  # noqa: ANN401 - TensorRT has no types
        """Return an execution context of ``engine`` with the cache; None if TensorRT fails."""
        make_config = getattr(engine, "create_runtime_config", None)
        config: Any = make_config and make_config()
        if not hasattr(config, "create_runtime_cache"):
            return engine.create_execution_context()
        self._cache = config.create_runtime_cache()
        self._load()
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(config)

    def save(self) -> None:
        """Store the compiled kernels; a failure only costs time at the next start."""
        if self._cache is None:
            return
        try:
            sealed.write(self._path, bytes(self._cache.serialize()), {})
        except CenternetdError as error:
            log.warning("the compiled kernels are not kept: %s", error)

    def _load(self) -> None:
        try:
            content, _ = sealed.read(self._path, trust.refuse_foreign_file)
        except CenternetdError as error:
            log.info("the compiled kernels of the last run are not used: %s: %s", self._path, error)
            return
        if not self._cache.deserialize(content):
            log.info("%s is of another version and is made anew", self._path)
