"""One run of the daemon: what builds, watches, reloads and stops it."""
