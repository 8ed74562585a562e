"""``centernetd export`` on a box without PyTorch."""

import sys
from pathlib import Path

import pytest

from centernetd.errors import StartupError
from centernetd.prepare.export import export
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.prepare import PrepareOptions


def test_it_explains_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("centernetd.prepare.export.")]:
        if not name.endswith(("export.export", "export.architectures")):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StartupError, match=r"pip install 'centernetd\[export\]'"):
        export("res_18", tmp_path / "any.pth", tmp_path / "out.onnx", PrepareOptions())


def test_the_architectures_are_known() -> None:
    assert {"res_18", "resdcn_18", "dla_34", "hourglass"} <= ARCHITECTURES.keys()
