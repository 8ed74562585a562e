"""centernetd: CenterNet detection on video streams, as a daemon."""

import os

# From 1.32 on, ONNX Runtime's Linux wheels report their use to their maker over the network, and
# keep a file in the home folder for it, unless this is set before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
