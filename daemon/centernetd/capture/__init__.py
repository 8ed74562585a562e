"""Where frames come from: files, network streams and cameras."""
