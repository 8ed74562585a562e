"""From a prepared ONNX model to a serialized plan, the same way for every TensorRT.

The network is strongly typed: tensor types come from the ONNX graph, and no builder flag changes
them. Newer TensorRT versions support nothing else.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from centernetd.errors import CenternetdError, EngineError, ModelError, StoppedError
from centernetd.model import contract, sealed
from centernetd.model.progress import Progress
from centernetd.plan import trust
from centernetd.plan.binding import Binding, plain, shared_logger
from centernetd.plan.file import Profile

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = re.compile(r"OutOfMemory \(Requested size was (\d+) bytes")
_NO_SUCH_OPERATOR = ("Plugin not found", "false")


def build(
    model: bytes,
    input_size: tuple[int, int],
    profile: Profile,
    binding: Binding,
    progress: Progress,
    *,
    workspace: int | None,
    timings: Path,
) -> bytes:
    """Build the plan of ``model``, a prepared ONNX document with embedded weights.

    ``workspace`` limits the GPU memory, in bytes, that a layer may use. Full TensorRT measures
    how fast each implementation of a layer runs, and keeps the results in ``timings``.

    Raises
    ------
    ModelError
        TensorRT rejects the model; one sentence without the model's name.
    EngineError
        TensorRT can't work here, or is out of GPU memory.
    StoppedError
        ``progress`` requested it.
    """
    trt: Any = binding.trt
    logger = shared_logger(trt)
    logger.errors.clear()
    builder = _builder(trt, logger, binding)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise _refusal(parser, binding, logger)
    config = builder.create_builder_config()
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    _add_profile(builder, config, input_size, profile)
    relay = _Relay(progress)
    monitor = relay.monitor(trt)
    config.progress_monitor = monitor
    with kept_timings(config, timings) if binding.plans_fit_one_gpu else nullcontext():
        plan = builder.build_serialized_network(network, config)
        if relay.error is not None:
            raise relay.error
        if plan is None:
            raise _failure(binding, logger)
    return bytes(memoryview(plan))


class _Relay:
    """Forwards the reports of TensorRT's progress monitor to a `Progress`.

    Its exceptions, including a Ctrl-C interrupt, must not cross native code. They
    stop the build and are kept as ``error``.
    """

    def __init__(self, progress: Progress) -> None:
        self.error: BaseException | None = None
        self._progress = progress
        self._steps: dict[str, int] = {}

    def monitor(self, trt: Any) -> Any:  # noqa: ANN401 - the binding has no types
        """Return a monitor for the binding; keep a reference until the build has ended."""
        relay = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
                relay._steps[phase] = steps
                relay._report(phase, 0)

            def step_complete(self, phase: str, step: int) -> bool:
                return relay._report(phase, step + 1)

            def phase_finish(self, phase: str) -> None:
                relay._report(phase, relay._steps[phase])

        return Monitor()

    def _report(self, phase: str, step: int) -> bool:
        if self.error is None:
            try:
                if not self._progress(phase, step, self._steps[phase]):
                    self.error = StoppedError("the build was stopped")
            except BaseException as error:
                self.error = error
        return self.error is None


@contextmanager
def kept_timings(config: Any, path: Path) -> Iterator[None]:  # noqa: ANN401 - a builder's config
    """Load the timing cache at ``path`` into ``config``, and save it with new entries on exit.

    TensorRT itself rejects timings of another version or GPU. Without them a build only takes
    longer, so no error here makes it fail.
    """
    if not any(_attach_timings(config, content) for content in (_stored_timings(path), b"")):
        log.info("TensorRT does not accept a timing cache")
    yield
    timings = config.get_timing_cache()
    content = timings.serialize() if timings is not None else None
    if content is None:
        return
    try:
        sealed.write(path, bytes(memoryview(content)), {})
    except CenternetdError as error:
        log.warning("%s", error)


def _stored_timings(path: Path) -> bytes:
    try:
        content, _ = sealed.read(path, trust.refuse_foreign_file)
    except CenternetdError as error:
        log.debug("%s: %s", path, error)
        return b""
    return content


def _attach_timings(config: Any, content: bytes) -> bool:  # noqa: ANN401
    timings = config.create_timing_cache(content)
    return timings is not None and bool(config.set_timing_cache(timings, False))


def _builder(trt: Any, logger: Any, binding: Binding) -> Any:  # noqa: ANN401
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind's reaction to a null pointer, and others
        reason = logger.last_error() if logger.errors else str(error)
        raise EngineError(f"{binding} can't build here: {reason}") from None


def _add_profile(
    builder: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    input_size: tuple[int, int],
    batch: Profile,
) -> None:
    profile = builder.create_optimization_profile()
    shapes = [(size, *input_size, 3) for size in (batch.minimum, batch.optimum, batch.maximum)]
    profile.set_shape(contract.INPUT, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"TensorRT rejects batches of {batch}")


def _refusal(parser: Any, binding: Binding, logger: Any) -> CenternetdError:  # noqa: ANN401
    """Turn the parser's first error into a sentence."""
    if not parser.num_errors:
        return ModelError(f"{binding} can't read it: {logger.last_error()}")
    error = parser.get_error(0)
    operator = error.node_operator()
    if not operator:
        return ModelError(f"{binding} can't read it: {plain(error.desc())}")
    return ModelError(
        f"{binding} does not support its operator {operator} "
        f"(node {error.node_name() or error.node()}): {why_refused(error.desc())}; "
        "export the network without it, or made of other operators"
    )


def _failure(binding: Binding, logger: Any) -> CenternetdError:  # noqa: ANN401
    for message in logger.errors:
        if short := _OUT_OF_MEMORY.search(message):
            return EngineError(
                f"{binding} needs {int(short[1]) / 1e6:.0f} MB of GPU memory to build, "
                "more than is free or than --workspace allows: build for smaller batches"
            )
        if "workspace limit" in message:
            return EngineError(
                f"{binding} can't build with so little GPU memory: raise --workspace"
            )
    return ModelError(f"{binding} can't build a plan from it: {logger.last_error()}")


def why_refused(message: str) -> str:
    """Return why a parser rejected a node."""
    why = plain(message)
    return "it has no such operator" if why.startswith(_NO_SUCH_OPERATOR) else why
