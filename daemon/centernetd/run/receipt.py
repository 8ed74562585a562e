"""The final line of a run: where every frame of a stream went."""

from centernetd.flow import Lane, Reason, StageName


def receipt(lane: Lane) -> str:
    """Return a line such as ``demo: 250 captured = 250 written + 0 dropped``.

    Written counts the recording or, without one, the events. Frames skipped because of the
    configuration are listed separately from lost ones.
    """
    book = lane.ledger.read()
    sink = next(iter(book.written), None)
    written, word = (book.inferred, "inferred") if sink is None else (book.written[sink], "written")
    lost = {
        (stage, reason): count
        for (stage, reason), count in book.dropped.items()
        if stage in (StageName.CAPTURE, StageName.INFERENCE, sink)
    }
    unwanted = sum(count for (_, reason), count in lost.items() if reason is Reason.UNWANTED)
    dropped = sum(lost.values()) - unwanted
    line = f"{lane.name}: {book.captured} captured = {written} {word} + {dropped} dropped"
    return f"{line} + {unwanted} not asked for" if unwanted else line
