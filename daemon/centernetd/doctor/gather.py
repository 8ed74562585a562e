"""Several collections at once, none of which may keep the others waiting."""

import threading
import time
from collections.abc import Callable, Mapping

from centernetd.errors import CenternetdError

Collection = Callable[[], str]


def gather(collections: Mapping[str, Collection], patience: float) -> dict[str, str]:
    """Run every collection in a thread and return what each gave within ``patience`` seconds.

    What fails or takes longer has a sentence in its place. A thread that hangs is left behind.
    """
    found: dict[str, str] = {}

    def collect(name: str, collection: Collection) -> None:
        try:
            found[name] = collection()
        except CenternetdError as error:
            found[name] = f"not collected: {error}\n"
        except Exception as error:
            found[name] = f"not collected, a fault in centernetd: {error!r}\n"

    threads = [
        threading.Thread(target=collect, args=item, name=f"collect:{item[0]}", daemon=True)
        for item in collections.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"not collected: it took more than {patience:g} s\n"
    return {name: found.get(name, late) for name in collections}
