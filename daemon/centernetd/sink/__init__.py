"""Where results go: recordings and event logs, and the disk that they are on."""
