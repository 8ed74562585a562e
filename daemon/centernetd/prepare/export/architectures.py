"""The architectures whose checkpoints can be exported; nothing here needs torch."""

from dataclasses import dataclass, field

from centernetd.prepare.prepare import PrepareOptions

CTDET = ("hm", "wh", "reg")
MULTI_POSE = ("hm", "wh", "hps", "reg", "hm_hp", "hp_offset")

# Preprocessing and postprocessing of bubbliiiing/centernet-pytorch.
_CENTERNET_PYTORCH = PrepareOptions(
    order="bgr",
    mean=(0.40789655, 0.44719303, 0.47026116),
    std=(0.2886383, 0.27408165, 0.27809834),
    resize="stretch",
    nms_iou=0.3,
)


@dataclass(frozen=True)
class Architecture:
    """Properties of an architecture needed before the network is created.

    The input size must be divisible by `divisor`. `first` and `last` are the keys of the weights of
    a head's first and last layer, with ``{}`` for the head; `heads` maps CenterNet's name of a head
    to the checkpoint's, if they differ. Keys that begin with one of `unused` are allowed but not
    used. `usual` are the default options, where they differ from the layout's.
    """

    divisor: int = 32
    first: str = "{}.0.weight"
    last: str = "{}.2.weight"
    heads: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    usual: PrepareOptions = field(default_factory=PrepareOptions)


ARCHITECTURES = {
    "res_18": Architecture(),
    "res_34": Architecture(),
    "res_50": Architecture(),
    "res_101": Architecture(),
    "res_152": Architecture(),
    "resdcn_18": Architecture(),
    "resdcn_101": Architecture(),
    # published checkpoints include the classifier of the ImageNet weights
    "dla_34": Architecture(unused=("base.fc.",)),
    "hourglass": Architecture(divisor=128, first="{}.1.0.conv.weight", last="{}.1.1.weight"),
    "centernet_resnet50": Architecture(
        first="head.{}.0.weight",
        last="head.{}.3.weight",
        heads=(("hm", "cls_head"), ("wh", "wh_head"), ("reg", "reg_head")),
        usual=_CENTERNET_PYTORCH,
    ),
}
