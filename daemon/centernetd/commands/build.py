"""Building a plan from the command line."""

import tempfile
from functools import partial
from pathlib import Path

from centernetd.commands.calibrate import Calibrated, calibrate
from centernetd.config import cache_dir
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT16
from centernetd.model.progress import Progress
from centernetd.plan import Gpu, Job, PlanFile, Profile, build_plan, load_binding
from centernetd.prepare import store
from centernetd.prepare.prepare import PrepareOptions, prepare


def build(
    model: str,
    plan: Path,
    profile: Profile,
    precision: str | None,
    calibration: str | None,
    workspace: int | None,
    progress: Progress,
) -> tuple[PlanFile, Calibrated | None]:
    """Build the plan of ``model``: a built-in name, an export or a prepared model.

    Without a ``precision``, an export is built in float16 and a prepared model in its own. For
    int8, an export is first calibrated on the video ``calibration``.

    Raises
    ------
    ModelError
        The model is missing or rejected.
    StartupError
        The plan can't be written.
    EngineError
        TensorRT can't build here.
    """
    binding = load_binding()
    gpu = Gpu.find(0) if binding.plans_fit_one_gpu else None
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        calibrated = None
        if calibration is None:
            request = store.Request(
                model, Path.cwd(), cache_dir(), precision=precision, precision_of_exports=FLOAT16
            )
            prepared = store.resolve(request)
        else:
            source = store.locate(model, Path.cwd(), cache_dir())
            output = Path(folder) / f"{source.stem}.onnx"
            options = PrepareOptions(precision=precision)
            calibrated = calibrate(partial(prepare, source), output, options, calibration, progress)
            prepared = manifests.load(output)
        job = Job(prepared, profile, binding, gpu, workspace)
        return build_plan(job, plan, cache_dir() / "plans", progress), calibrated
