"""Batches of frames in, detections out: letterboxing, engines, postprocessing."""
