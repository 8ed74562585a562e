"""The layouts of CenterNet exports met in the wild, and telling which one a network has."""

from daemon.errors import ModelError
from daemon.model.layouts.base import Head, Layout, Maps, Network, Regression
from daemon.model.layouts.centerface import CenterFace
from daemon.model.layouts.ctdet import Ctdet
from daemon.model.layouts.flat import Flat, FlatPool

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (Ctdet(), Flat(), FlatPool(), CenterFace())
}

__all__ = ["LAYOUTS", "Head", "Layout", "Maps", "Network", "Regression", "recognise"]


def recognise(network: Network, declared: str | None) -> tuple[Layout, tuple[Head, ...]]:
    """Return the layout of `network` and its outputs in that layout's order.

    Raises
    ------
    ModelError
        The layout declared is unknown or doesn't fit, or none was declared and none is certain.
    """
    if declared is not None and declared not in LAYOUTS:
        raise ModelError(f"unknown layout {declared}; there are {', '.join(LAYOUTS)}")
    known = [layout for layout in LAYOUTS.values() if layout.recognises(network)]
    layout = LAYOUTS[declared] if declared else next(iter(known), None)
    heads = layout.select(network) if layout else None
    if layout is None or heads is None:
        raise ModelError(_refusal(network, layout))
    return layout, heads


def _refusal(network: Network, layout: Layout | None) -> str:
    rows, columns = network.grid
    found = ", ".join(map(str, network.heads))
    where = f"its outputs {found} over a grid of {rows}x{columns} cells"
    if layout is not None:
        return f"{where} don't fit the layout {layout.name}"
    fitting = [name for name, layout in LAYOUTS.items() if layout.select(network)]
    if not fitting:
        return f"{where} fit none of the layouts {', '.join(LAYOUTS)}"
    choices = " or ".join(f"--layout {name}" for name in fitting)
    return f"{where} don't tell their layout: declare it with {choices}"
