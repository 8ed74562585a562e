"""Deformable convolutions under exporters' plugin names, converted to ONNX's own operator."""

from collections.abc import Sequence

from onnx import ModelProto, NodeProto, helper

from centernetd.errors import ModelError

OPERATOR = "DeformConv"
DOMAIN = "centernetd"  # of the operator in models whose opset predates it
STANDARD_DOMAINS = ("", "ai.onnx")

# Inputs of these plugins: input, offsets, (modulation,) weights, optionally bias.
_MODULATED = {"DCNv2", "DCNv2Plugin", "MMCVModulatedDeformConv2d", "ModulatedDeformConv2d"}
_PLAIN = {"MMCVDeformConv2d"}
_OFFSET_GROUPS = ("deformable_groups", "deformable_group", "deform_groups")
_KNOWN = {"stride", "padding", "dilation", "groups", *_OFFSET_GROUPS}
_IGNORED = {"im2col_step", "kernel_size", "out_channel", "out_channels", "bias"}


def adopt_plugins(model: ModelProto) -> None:
    """Turn plugin nodes of deformable convolution, in place, into `OPERATOR`.

    They get the domain `DOMAIN`, which ONNX's version converter leaves alone: call this before
    converting. The plugins are those of CenterNet's and MMCV's exports. Their offset channels are
    in ONNX's order: (y, x) for each tap in turn.

    Raises
    ------
    ModelError
        A plugin has unknown inputs or attributes.
    """
    adopted = [node for node in model.graph.node if node.op_type in _MODULATED | _PLAIN]
    for node in adopted:
        node.CopyFrom(_adopt(node))
    if adopted and DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _adopt(node: NodeProto) -> NodeProto:
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    names = list(node.input)
    if node.op_type in _PLAIN:
        names.insert(2, "")  # no modulation
    if len(names) not in (4, 5) or given.keys() - _KNOWN - _IGNORED:
        raise ModelError(
            f"its {node.op_type} has {len(node.input)} inputs and the attributes "
            f"{', '.join(sorted(given))}, which are not known: export it with the operator "
            f"{OPERATOR} (opset 19)"
        )
    source, offset, mask, weight = names[:4]
    bias = names[4] if len(names) == 5 else ""
    groups = [given[name] for name in _OFFSET_GROUPS if name in given]
    return helper.make_node(
        OPERATOR,
        [source, weight, offset, bias, mask],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        strides=_pair(given.get("stride", 1)),
        pads=_pair(given.get("padding", 0)) * 2,
        dilations=_pair(given.get("dilation", 1)),
        group=given.get("groups", 1),
        offset_group=groups[0] if groups else 1,
    )


def _pair(value: int | Sequence[int]) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values
