"""What operators see: metrics, HTTP pages, systemd notifications, logs."""
