"""ONNX graphs: a compact notation for new nodes, and walking and pruning existing ones.

With the notation a decode reads like its formula.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

ONNX_DOMAINS = ("", "ai.onnx")  # two names of the domain of ONNX's own operators

_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass
class Graph:
    """Nodes and constants to be added to a model; all names begin with `scope`."""

    scope: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def tensor(self, name: str) -> "Value":
        """Refer to a tensor of the existing model."""
        return Value(self, name)

    def constant(self, value: npt.ArrayLike) -> "Value":
        """Add a constant: int64 if all values are integers, otherwise float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)
        name = f"{self.scope}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(self, name)

    def node(self, op: str, *inputs: "Value", outputs: int = 1, **attributes: Any) -> "list[Value]":  # noqa: ANN401
        """Add one node and return its outputs."""
        name = f"{self.scope}/{op}_{len(self.nodes)}"
        names = [f"{name}:{index}" for index in range(outputs)]
        operands = [value.name for value in inputs]
        self.nodes.append(helper.make_node(op, operands, names, name=name, **attributes))
        return [Value(self, output) for output in names]

    def concat(self, *parts: "Value", axis: int) -> "Value":
        """Concatenate `parts` along `axis`."""
        return self.node("Concat", *parts, axis=axis)[0]


@dataclass(frozen=True)
class Value:
    """One tensor of a `Graph`; in expressions, numbers become constants of its type."""

    graph: Graph
    name: str

    def then(self, op: str, *others: "Value", **attributes: Any) -> "Value":  # noqa: ANN401
        """Apply an operator with one output to this and `others`."""
        return self.graph.node(op, self, *others, **attributes)[0]

    def __add__(self, other: "Operand") -> "Value":
        return self.then("Add", self._operand(other))

    def __sub__(self, other: "Operand") -> "Value":
        return self.then("Sub", self._operand(other))

    def __mul__(self, other: "Operand") -> "Value":
        return self.then("Mul", self._operand(other))

    def __truediv__(self, other: "Operand") -> "Value":
        return self.then("Div", self._operand(other))

    def cast(self, element: TensorProto.DataType) -> "Value":
        """Convert to another element type."""
        return self.then("Cast", to=element)

    def reshape(self, *shape: int) -> "Value":
        """Reshape; 0 keeps a dimension, -1 takes the remainder."""
        return self.then("Reshape", self.graph.constant(shape))

    def transpose(self, *axes: int) -> "Value":
        """Reorder the dimensions."""
        return self.then("Transpose", perm=axes)

    def part(self, start: int, stop: int, axis: int) -> "Value":
        """Slice ``start:stop`` of `axis`."""
        bounds = [self.graph.constant([bound]) for bound in (start, stop, axis)]
        return self.then("Slice", *bounds)

    def pick(self, indices: list[int], axis: int) -> "Value":
        """Select the entries of `axis` in the order of `indices`."""
        return self.then("Gather", self.graph.constant(indices), axis=axis)

    def gather(self, indices: "Value", axis: int) -> "Value":
        """Gather one entry of `axis` for each element of `indices`, which has the same rank."""
        return self.then("GatherElements", indices, axis=axis)

    def top(self, count: int) -> "tuple[Value, Value]":
        """Return the `count` largest along the last axis, descending, and their indices."""
        values, indices = self.graph.node(
            "TopK", self, self.graph.constant([count]), outputs=2, axis=-1, largest=1, sorted=1
        )
        return values, indices

    def named(self, name: str) -> None:
        """Alias this tensor as `name`, such as a model output or another part's input."""
        self.graph.nodes.append(helper.make_node("Identity", [self.name], [name], name=name))

    def _operand(self, other: "Operand") -> "Value":
        return other if isinstance(other, Value) else self.graph.constant(other)


Operand = Value | float | npt.NDArray[np.float32]


def ancestors(
    graph: GraphProto,
    tensor: str,
    through: Set[str] | None = None,
    until: Set[str] = frozenset(),
) -> Iterator[NodeProto]:
    """Walk upstream from `tensor`, visiting each node once.

    Continue only past operators in `through`, if given, and never past those in `until`.
    """
    producers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [tensor], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        node = producers[name]
        yield node
        if node.op_type not in until and (through is None or node.op_type in through):
            waiting.extend(node.input)


def last_layer(graph: GraphProto, output: str) -> list[NodeProto]:
    """Return the last nodes with weights upstream of `output`, and all nodes in between."""
    return list(ancestors(graph, output, until=_LAYERS))


def keep(graph: GraphProto, outputs: Sequence[str]) -> None:
    """Remove, in place, all outputs except `outputs`, and what only they depend on."""
    replace(graph.output, [output for output in graph.output if output.name in outputs])
    prune(graph, outputs)


def prune(graph: GraphProto, outputs: Sequence[str]) -> None:
    """Remove, in place, nodes and initializers that `outputs` don't depend on.

    They are deleted individually: rebuilding the lists would hold the weights twice.
    """
    needed = set(outputs)
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if needed.intersection(node.output):
            needed.update(reads(node))
        else:
            del graph.node[index]
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that `node` reads, also those read in its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (output.name for output in graph.output)


def replace(field: "list[object]", content: Iterable[object]) -> None:
    """Make `content`, which may consist of entries of `field`, the content of a repeated field."""
    kept = list(content)
    del field[:]
    field.extend(kept)


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that `model` uses."""
    versions: Iterator[int] = (
        entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS
    )
    return max(versions)


def forget_unused_domains(model: ModelProto) -> None:
    """Remove the imports of domains that no node uses, in place."""
    used = {node.domain for node in model.graph.node} | set(ONNX_DOMAINS)
    replace(model.opset_import, [entry for entry in model.opset_import if entry.domain in used])
