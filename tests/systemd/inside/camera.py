"""A camera at http://192.0.2.10: pictures of the demo, to whoever knows the password.

Run by the Python of the installed program, whose libraries it uses.
"""

import base64
import itertools
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2

RATE = 5
BOUNDARY = "picture"


def pictures(path: str, count: int = 40) -> list[bytes]:
    """Return every fifth picture of a video, small, as JPEG."""
    with av.open(path) as video:
        frames = itertools.islice(video.decode(video=0), 0, 5 * count, 5)
        images = [cv2.resize(frame.to_ndarray(format="bgr24"), (640, 360)) for frame in frames]
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in images]


class Camera(BaseHTTPRequestHandler):
    """Answers with MJPEG without end."""

    pictures: list[bytes]
    password: str

    def do_GET(self) -> None:
        """Send pictures until the viewer goes."""
        word = base64.b64encode(f"viewer:{self.password}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {word}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={BOUNDARY}")
        self.end_headers()
        for picture in itertools.cycle(self.pictures):
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
            try:
                self.wfile.write(head.encode() + b"\r\n\r\n" + picture + b"\r\n")
            except OSError:
                return
            time.sleep(1 / RATE)


if __name__ == "__main__":
    Camera.pictures, Camera.password = pictures(sys.argv[1]), sys.argv[2]
    ThreadingHTTPServer(("192.0.2.10", int(sys.argv[3])), Camera).serve_forever()
