"""The fault suite: it does to centernetd what happens to it in the field, and measures.

``make faults QUICK=1`` tries each fault once; ``make faults`` tries each several
times, soaks, and brings docs/reliability.md up to date. Both run the same tests: they differ
in ``ROUNDS`` and in the minutes of ``SOAK``.

To add a promise: a line in `tests.faults.promises`, and a test that takes the fixture `measure`
and calls it with the promise's name and a figure for every try. The first line of the test's
docstring says, in the page, what was done. A test that can't be done on a machine is skipped
with a reason, which the page repeats.
"""
