"""How far a prepared model is from its PyTorch network followed by the reference decode."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch

from centernetd.model.manifest import Manifest
from centernetd.prepare.export.layers import TorchNetwork
from tests import reference
from tests.exports import Array, Pixels
from tests.reference import Decoded, multi_pose


@dataclass(frozen=True)
class Difference:
    """The largest difference of places, in pixels of the input, and of scores.

    Whether a cell is a peak among its neighbours, and whether a joint moves to a peak, are
    decisions, which may fall otherwise where it is close: `decisions_apart` is the larger share of
    cells and of joints for which they do. These count in nothing else but the order of scores.
    """

    pixels: float
    scores: float
    decisions_apart: float = 0.0


def planes(pictures: Pixels, manifest: Manifest) -> torch.Tensor:
    """Do what the graph does before the network, in NumPy."""
    ordered = pictures if manifest.order == "bgr" else pictures[..., ::-1]
    scaled = (ordered / 255 - np.array(manifest.mean)) / np.array(manifest.std)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def difference(
    session: ort.InferenceSession, network: TorchNetwork, manifest: Manifest, pictures: Pixels
) -> Difference:
    """Compare a prepared model with its network on `pictures`; fails where it isn't that."""
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"frames": pictures}), strict=True))
    with torch.no_grad():
        maps = dict(zip(network.outputs, network(planes(pictures, manifest)), strict=True))
    each = [
        _of_frame(
            found["detections"][row],
            found["keypoints"][row] if "keypoints" in found else None,
            _expected({head: value[row].numpy() for head, value in maps.items()}, manifest.top_k),
        )
        for row in range(len(pictures))
    ]
    return worst(each)


def worst(each: Sequence[Difference]) -> Difference:
    """Return the largest of each."""
    return Difference(
        max(one.pixels for one in each),
        max(one.scores for one in each),
        max(one.decisions_apart for one in each),
    )


def _expected(maps: dict[str, Array], top_k: int) -> Decoded:
    if "hps" in maps:
        return multi_pose(maps, top_k)
    return reference.ctdet(maps["hm"], maps["wh"], maps["reg"])


def _of_frame(found: Array, keypoints: Array | None, expected: Decoded) -> Difference:
    """Pair every detection with the nearest of its class, and compare the scores in order."""
    ranked = expected.detections[: len(found)]
    scores = float(np.abs(found[:, 4] - ranked[:, 4]).max())
    pairs = [_nearest(detection, expected.detections) for detection in found]
    assert len(set(pairs)) == len(pairs), "a detection comes twice"
    agreed = (expected.detections[pairs, 4] > 0) == (found[:, 4] > 0)
    apart = np.abs(found - expected.detections[pairs])
    pixels, scores = float(apart[:, :4].max()), max(scores, float(apart[agreed, 4].max()))
    if keypoints is None:
        return Difference(pixels, scores, float((~agreed).mean()))
    joints = np.abs(keypoints - expected.keypoints[pairs])
    far = joints[..., :2].max(axis=2) > 1e-3
    near = joints[~far]
    return Difference(
        max(pixels, float(near[:, :2].max())),
        max(scores, float(near[:, 2].max())),
        max(float((~agreed).mean()), float(far.mean())),
    )


def _nearest(detection: Array, expected: Array) -> int:
    distance = np.abs(expected[:, :4] - detection[:4]).max(axis=1)
    return int(np.argmin(np.where(expected[:, 5] == detection[5], distance, np.inf)))
