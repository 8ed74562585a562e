"""The networks that checkpoints can be exported of; nothing here needs torch."""

from dataclasses import dataclass, field

from centernetd.prepare.options import PrepareOptions

CTDET = ("hm", "wh", "reg")
MULTI_POSE = ("hm", "wh", "hps", "reg", "hm_hp", "hp_offset")

# How bubbliiiing/centernet-pytorch feeds its network and what it does with the boxes.
_CENTERNET_PYTORCH = PrepareOptions(
    order="bgr",
    mean=(0.40789655, 0.44719303, 0.47026116),
    std=(0.2886383, 0.27408165, 0.27809834),
    resize="stretch",
    nms_iou=0.3,
)


@dataclass(frozen=True)
class Architecture:
    """What must be known of a network before it is made.

    Its input must be divisible by `divisor`. `first` and `last` are the keys of the weights of a
    head's first and last layer, with ``{}`` for the head; `heads` says what the checkpoint calls
    a head where that isn't CenterNet's own name. Keys that begin with one of `unused` may be
    there and serve no output. `usual` is what its networks are fed, where that differs from the
    layout.
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
    # the classifier of its ImageNet weights is part of the published checkpoints
    "dla_34": Architecture(unused=("base.fc.",)),
    "hourglass": Architecture(divisor=128, first="{}.1.0.conv.weight", last="{}.1.1.weight"),
    "centernet_resnet50": Architecture(
        first="head.{}.0.weight",
        last="head.{}.3.weight",
        heads=(("hm", "cls_head"), ("wh", "wh_head"), ("reg", "reg_head")),
        usual=_CENTERNET_PYTORCH,
    ),
}
