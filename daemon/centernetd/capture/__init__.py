"""Frame sources: files, network streams and cameras."""
