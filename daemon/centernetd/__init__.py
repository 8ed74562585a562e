"""centernetd: CenterNet detection on video streams, as a daemon."""

import os

# Since 1.32, ONNX Runtime's Linux wheels send usage telemetry over the network and keep a file for
# it in the home folder, unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
