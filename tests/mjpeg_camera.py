"""An MJPEG camera in this process, and the small videos and pictures that it and others show."""

import base64
import hashlib
import threading
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np

WAIT_S = 10
SIZE = (96, 64)


def picture(level):
    return np.full((SIZE[1], SIZE[0], 3), (level, level // 2, 0), np.uint8)


def write_clip(path, frames, period):
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width, stream.height = SIZE
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number * 10), format="bgr24")
            frame.pts, frame.time_base = number * period, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera; the path says how it behaves."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, rest = self.path.strip("/").partition("/")
        getattr(self, f"serve_{path}", self.serve_nothing)(*rest.split("/") if rest else ())

    def serve_nothing(self):
        self.send_error(404)

    def serve_page(self):
        self.answer("text/html", b"<html>Please log in</html>")

    def serve_busy(self):
        self.send_error(503)

    def serve_file(self, name):
        self.answer("video/mp4", self.server.files[name])

    def serve_basic(self, *_):
        expected = "Basic " + base64.b64encode(b"me:s3/cret").decode()
        if self.headers.get("Authorization") == expected:
            self.serve_live()
        else:
            self.challenge('Basic realm="camera"')

    def serve_digest(self):
        given = self.headers.get("Authorization", "")
        fields = dict(part.strip().split("=", 1) for part in given[7:].split(",") if "=" in part)
        fields = {name: value.strip('"') for name, value in fields.items()}
        user, action = (
            hashlib.md5(text.encode()).hexdigest()
            for text in ("me:camera:s3/cret", f"GET:{self.path}")
        )
        if fields.get("response") == hashlib.md5(f"{user}:n1:{action}".encode()).hexdigest():
            self.serve_live()
        else:
            self.challenge('Digest realm="camera", nonce="n1"')

    def serve_live(self, frames="1000000", then="close"):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(int(frames)):
            jpeg = cv2.imencode(".jpg", picture(number % 200))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            if self.server.over.wait(0.02):
                return
        if then == "drip":
            while not self.server.over.wait(0.05):
                self.wfile.write(b".")
        elif then == "stall":
            self.server.over.wait(WAIT_S)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def challenge(self, scheme):
        self.send_response(401)
        self.send_header("WWW-Authenticate", scheme)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class CameraServer(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request, client_address):
        """A client that hangs up is what several tests are about."""


@contextmanager
def mjpeg_camera(**files):
    """Serve on loopback: ``live``, ``live/FRAMES/THEN``, ``file/NAME`` and what else it knows."""
    server = CameraServer(("127.0.0.1", 0), Camera)
    server.over = threading.Event()
    server.files = files
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fleet-camera")
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT_S)
