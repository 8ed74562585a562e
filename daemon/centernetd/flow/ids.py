"""Names for events and tracks that sort by time and are unique everywhere."""

import secrets
import uuid


def uuid7(wall_time: float) -> str:
    """Return a new UUID that begins with a Unix time in seconds (RFC 9562, version 7)."""
    milliseconds = max(0, int(wall_time * 1000)) & (1 << 48) - 1
    random = secrets.randbits(74)
    high, low = random >> 62, random & (1 << 62) - 1
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low))
