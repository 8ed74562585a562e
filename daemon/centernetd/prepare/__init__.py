"""The offline compiler: from an export, or a PyTorch checkpoint, to a prepared model.

`store.resolve` finds or prepares the model that a configuration names, in a separate process
(`isolated`). `prepare` is the sequence of steps: `clean` repairs the export (with `deform` for
deformable convolutions), `examine` runs it to learn its outputs, `layouts` recognises what they
are, `float16` or `int8` changes the precision, and `decode` adds pre- and post-processing.
`export` gets there from a checkpoint, and `fetch` (with `tfjs`) from a public package. All of
it is written with `graph`.
"""
