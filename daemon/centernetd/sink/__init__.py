"""Sinks: recordings, event logs, and the disk they are stored on."""
