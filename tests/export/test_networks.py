"""Our networks give what the authors' own do, by the record of `scripts/record_networks.py`."""

import numpy as np
import pytest
import torch

from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.export.checkpoint import outline
from tests.export.networks import outputs
from tests.export.recorded import CLASSES, RECORD, WIDTHS, picture, sample, weights

with np.load(RECORD) as arrays:
    RECORDED = dict(arrays)
CASES = sorted({tuple(key.split("/")[:3]) for key in RECORDED})
# twice more the network that takes longest
LARGE = {("xingyizhou", "hourglass", "multi_pose"), ("bubbliiiing", "hourglass", "ctdet")}


def test_every_architecture_is_recorded() -> None:
    assert {name for _, name, _ in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("author", "name", "task"),
    [pytest.param(*case, marks=[pytest.mark.large] if case in LARGE else []) for case in CASES],
)
def test_a_network_gives_what_its_authors_does(author: str, name: str, task: str) -> None:
    network = outline(name, outputs(task, CLASSES[task]), WIDTHS.get(name, 64))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(weights(shapes), assign=True)
    with torch.no_grad():
        maps = dict(zip(network.outputs, network(picture(name)), strict=True))
    if name == "centernet_resnet50":  # the authors' own ends in it
        maps["hm"] = maps["hm"].sigmoid()
    for head, found in maps.items():
        expected = RECORDED[f"{author}/{name}/{task}/{head}"]
        apart = np.abs(sample(found) - expected).max()
        assert apart < 1e-4 * expected.std(), head
