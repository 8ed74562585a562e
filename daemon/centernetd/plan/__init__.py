"""TensorRT plans: built from prepared models, cached, and verified before loading.

A plan is native code for one TensorRT version and usually one kind of GPU. It ends with a seal
that records what it was built from and for; a plan without one is rejected.
"""

from centernetd.plan.binding import Binding, load_binding, shared_logger
from centernetd.plan.build import build
from centernetd.plan.cache import Job, build_plan, resolve_plan, why_build
from centernetd.plan.file import Fingerprint, Gpu, PlanFile, Profile, load_plan

__all__ = [
    "Binding",
    "Fingerprint",
    "Gpu",
    "Job",
    "PlanFile",
    "Profile",
    "build",
    "build_plan",
    "load_binding",
    "load_plan",
    "resolve_plan",
    "shared_logger",
    "why_build",
]
