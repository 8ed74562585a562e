"""From a prepared ONNX model to a serialized plan, the same way for every TensorRT.

The network is strongly typed: tensor types come from the ONNX graph, and no builder flag changes
them. Newer TensorRT versions support nothing else.
"""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from centernetd.errors import CenternetdError, EngineError, ModelError
from centernetd.model import contract
from centernetd.model.progress import Progress
from centernetd.plan import wording
from centernetd.plan.binding import Binding, shared_logger
from centernetd.plan.fingerprint import Profile
from centernetd.plan.progress import Relay
from centernetd.plan.timing import kept_timings

_OUT_OF_MEMORY = re.compile(r"OutOfMemory \(Requested size was (\d+) bytes")


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
    relay = Relay(progress)
    monitor = relay.monitor(trt)
    config.progress_monitor = monitor
    with ExitStack() as stack:
        if binding.plans_fit_one_gpu:
            stack.enter_context(kept_timings(config, timings))
        plan = builder.build_serialized_network(network, config)
        if relay.error is not None:
            raise relay.error
        if plan is None:
            raise _failure(binding, logger)
    return bytes(memoryview(plan))


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
        raise ModelError(f"TensorRT refuses batches of {batch}")


def _refusal(parser: Any, binding: Binding, logger: Any) -> CenternetdError:  # noqa: ANN401
    """Turn the parser's first error into a sentence."""
    if not parser.num_errors:
        return ModelError(f"{binding} can't read it: {logger.last_error()}")
    error = parser.get_error(0)
    operator = error.node_operator()
    if not operator:
        return ModelError(f"{binding} can't read it: {wording.plain(error.desc())}")
    return ModelError(
        f"{binding} can't take its operator {operator} "
        f"(node {error.node_name() or error.node()}): {wording.of_node(error.desc())}; "
        "export the network without it, or made of other operators"
    )


def _failure(binding: Binding, logger: Any) -> CenternetdError:  # noqa: ANN401
    for message in logger.errors:
        if short := _OUT_OF_MEMORY.search(message):
            return EngineError(
                f"{binding} needs {int(short[1]) / 1e6:.0f} MB of GPU memory to work in, which is "
                "more than there is or than --workspace allows: build for smaller batches"
            )
        if "workspace limit" in message:
            return EngineError(f"{binding} can't work in so little GPU memory: raise --workspace")
    return ModelError(f"{binding} can't build a plan of it: {logger.last_error()}")
