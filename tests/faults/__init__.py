"""The fault suite: it injects the faults that occur in the field, and measures the reaction.

``make faults QUICK=1`` injects each fault once; ``make faults`` injects each several times, soaks,
and updates docs/reliability.md. Both run the same tests, with other values of ``ROUNDS`` and of
``SOAK`` (minutes).

To add a promise, add an entry to `tests.faults.promises` and a test that takes the fixture
`measure` and calls it with the promise's key and a figure for every try. The first line of the
test's docstring describes the fault in the page. A test that can't run on a machine is skipped
with a reason, which the page repeats. To reword a promise or a fault, change it here and (a fault)
in docs/reliability.json, then run ``python -m tests.faults.report``.
"""
