"""The installer into a folder, of a program that is hardly more than its name.

Both folders have a space in their names, as USB sticks do, and the first is named from here.
"""

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tools import tool

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "opt/centernetd"
FILES = {
    "centernetd/__init__.py": "",
    "centernetd/__main__.py": """def main():
    import sys
    print("centernetd", 7)
    if sys.argv[1] == "fetch":
        import os, pathlib
        links = pathlib.Path(os.environ["PIP_FIND_LINKS"])
        assert " " not in str(links) and list(links.glob("*.whl"))

if __name__ == "__main__":
    main()
""",
    "centernetd-7.dist-info/METADATA": "Metadata-Version: 2.1\nName: centernetd\nVersion: 7\n",
    "centernetd-7.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\n"
    "Tag: py3-none-any\n",
    "centernetd-7.dist-info/entry_points.txt": "[console_scripts]\n"
    "centernetd=centernetd.__main__:main",
}


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that a service can see and that makes environments: Debian's, if not ours."""
    if not os.path.realpath(sys.executable).startswith(("/home/", "/root/")):
        return sys.executable
    return tool("/usr/bin/python3")


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory, python: str) -> Path:
    folder = tmp_path_factory.mktemp("USB stick")
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels/centernetd-7-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
        wheel.writestr("centernetd-7.dist-info/RECORD", "".join(f"{name},,\n" for name in FILES))
    (folder / "models").mkdir()
    (folder / "models/coco.onnx").write_text("a model")
    script = runpy.run_path(str(ROOT / "scripts" / "make_wheelhouse.py"))
    script["add_kit"](script["Target"](script["version_of"](python), os.uname().machine), folder)
    return folder


def setup(command: str, wheelhouse: Path, python: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", wheelhouse / "deploy/setup.sh", command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHON": python, "DESTDIR": "an image/"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_into_a_folder_that_is_named_from_here(
    tmp_path: Path, wheelhouse: Path, python: str
) -> None:
    image = tmp_path / "an image"
    assert "Installed centernetd 7" in setup("install", wheelhouse, python, tmp_path)
    texts = [*image.glob(f"{PROGRAM}/bin/*"), image / PROGRAM / "pyvenv.cfg"]
    texts = [path for path in texts if not path.is_symlink()]
    assert [path for path in texts if str(tmp_path) in path.read_text()] == []
    assert "/opt/centernetd/bin/python" in (image / PROGRAM / "bin/centernetd").read_text()
    assert (image / "var/cache/centernetd/models/coco.onnx").read_text() == "a model"
    link = image / "usr/bin/centernetd"
    assert link.readlink() == Path("/opt/centernetd/bin/centernetd")
    assert (image / "usr/lib/systemd/system/centernetd@.service").is_file()
    assert (image / "usr/lib/sysusers.d/centernetd.conf").is_file()
    config = image / "etc/centernetd/config.yaml"
    assert config.read_text() == (ROOT / "deploy/config.yaml").read_text()

    config.write_text("mine")
    (image / PROGRAM / "mark").touch()
    setup("install", wheelhouse, python, tmp_path)
    assert not (image / PROGRAM / "mark").exists()
    setup("rollback", wheelhouse, python, tmp_path)
    assert (image / PROGRAM / "mark").exists()
    setup("uninstall", wheelhouse, python, tmp_path)
    assert [path for path in image.rglob("*") if path.is_file()] == [config]
    assert config.read_text() == "mine"
