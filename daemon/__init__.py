"""centernetd: CenterNet detection on video streams, as a daemon."""
