"""The layouts of exports found in practice, and recognising a network's layout."""

from centernetd.errors import ModelError
from centernetd.prepare.layouts.base import (
    BoxLayout,
    Declared,
    Head,
    Heads,
    HeatmapLayout,
    JointMaps,
    Layout,
    Maps,
    Network,
    Regression,
)
from centernetd.prepare.layouts.centerface import CenterFace
from centernetd.prepare.layouts.ctdet import Ctdet, MultiPose
from centernetd.prepare.layouts.end2end import End2End
from centernetd.prepare.layouts.flat import Flat, FlatPool
from centernetd.prepare.layouts.ltrb import Ltrb
from centernetd.prepare.layouts.queries import Queries

AnyLayout = HeatmapLayout | BoxLayout

_LAYOUTS: tuple[AnyLayout, ...] = (
    Ctdet(), MultiPose(), Flat(), FlatPool(), CenterFace(), Ltrb(), End2End(), Queries(),
)  # fmt: skip

LAYOUTS = {layout.name: layout for layout in _LAYOUTS}

__all__ = [
    "LAYOUTS", "AnyLayout", "BoxLayout", "Declared", "Head", "Heads", "HeatmapLayout", "JointMaps",
    "Layout", "Maps", "Network", "Regression", "recognise",
]  # fmt: skip


def recognise(network: Network, declared: str | None) -> tuple[AnyLayout, Heads]:
    """Return the layout of `network`, and its outputs by their role in that layout.

    Raises
    ------
    ModelError
        The declared layout is unknown or doesn't fit, or none is declared or recognised.
    """
    if declared is not None and declared not in LAYOUTS:
        raise ModelError(f"unknown layout {declared}; there are {', '.join(LAYOUTS)}")
    known = [layout for layout in LAYOUTS.values() if layout.recognises(network)]
    layout = LAYOUTS[declared] if declared else next(iter(known), None)
    heads = layout.select(network) if layout else None
    if layout is None or heads is None:
        raise ModelError("; ".join([*network.unfit, _refusal(network, layout)]))
    return layout, heads


def _refusal(network: Network, layout: Layout | None) -> str:
    """List the outputs, and the options that would declare their roles."""
    rows, columns = network.grid
    found = ", ".join(map(str, network.heads))
    where = f"its outputs {found} over a grid of {rows}x{columns} cells"
    if layout is not None:
        return (
            f"{where} don't fit the layout {layout.name}: identify them with {layout.declaration()}"
        )
    fitting = {layout: layout.select(network) for layout in LAYOUTS.values()}
    choices = [layout.declaration(heads) for layout, heads in fitting.items() if heads]
    if choices:
        return f"{where} don't identify their layout: declare it with {' or '.join(choices)}"
    every = " or ".join(layout.declaration() for layout in LAYOUTS.values())
    return f"{where} fit no layout: identify them with {every}"
