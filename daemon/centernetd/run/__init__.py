"""One run of the daemon: building, supervising, reloading and stopping it."""
