"""TensorRT plans: built from prepared models, kept in a cache, and verified before they load.

A plan is native code for one TensorRT, and mostly for one kind of GPU. It ends with a seal, which
says what it was built from and for; without it a plan is refused.
"""

from centernetd.model.plan.binding import Binding, load_binding, shared_logger
from centernetd.model.plan.build import build
from centernetd.model.plan.cache import Job, build_plan, resolve_plan, why_build
from centernetd.model.plan.file import PlanFile, load_plan
from centernetd.model.plan.fingerprint import Fingerprint, Gpu, Profile
from centernetd.model.plan.progress import BuildStoppedError, LoggedProgress, Onlooker, Progress

__all__ = [
    "Binding",
    "BuildStoppedError",
    "Fingerprint",
    "Gpu",
    "Job",
    "LoggedProgress",
    "Onlooker",
    "PlanFile",
    "Profile",
    "Progress",
    "build",
    "build_plan",
    "load_binding",
    "load_plan",
    "resolve_plan",
    "shared_logger",
    "why_build",
]
