"""Measuring: each stage, the pipeline against its bound, many streams."""
