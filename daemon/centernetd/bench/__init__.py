"""Benchmarks: each stage, the pipeline against its upper bound, and many streams."""
