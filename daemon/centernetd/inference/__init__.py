"""Frames in, detections out: batches, letterboxing, engines."""
