"""Rejection of custom operators in a network."""

import onnx
from onnx import ModelProto

from centernetd.errors import ModelError

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_RUNTIME = "com.microsoft"  # ONNX Runtime's own, added by its optimizer


def refuse_custom(model: ModelProto, *, known: str) -> None:
    """Raise `ModelError` naming the operators that ONNX doesn't define.

    Those of ONNX Runtime and of the domain `known` are allowed.
    """
    custom = {
        f"{node.op_type} of {node.domain}" if node.domain else node.op_type: None
        for node in model.graph.node
        if node.domain not in (_RUNTIME, known)
        and not (node.domain in _STANDARD and onnx.defs.has(node.op_type, domain=_domain(node)))
    }
    if custom:
        raise ModelError(
            f"it needs operators that ONNX doesn't define ({', '.join(custom)}): export it again "
            "with standard ones"
        )


def _domain(node: onnx.NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain
