"""Running several collections concurrently, none of which may delay the others."""

import threading
import time
from collections.abc import Callable, Mapping

from centernetd.errors import CenternetdError

Collection = Callable[[], str]


def gather(collections: Mapping[str, Collection], patience: float) -> dict[str, str]:
    """Run every collection in a thread and return the results ready within ``patience`` seconds.

    Failures and timeouts are replaced by a sentence. A hanging thread is abandoned.
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
