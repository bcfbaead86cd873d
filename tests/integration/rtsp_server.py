"""A real RTSP camera for tests: GStreamer's RTSP server with a moving test picture, on loopback.

Run by the system's Python (it has the GObject bindings), never by ours. Prints ``ready`` once it
listens and ends when its standard input closes, so that it never outlives the test.

Usage: rtsp_server.py PORT h264|jpeg [user:password]
       rtsp_server.py check     fails when an element is not installed
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency key-int-max=10 speed-preset=ultrafast ! rtph264pay",
    "jpeg": "jpegenc ! rtpjpegpay",
}
PICTURE = (
    "videotestsrc is-live=true pattern=ball"
    " ! video/x-raw,format=I420,width=320,height=240,framerate=25/1"
)


def protect(server, factory, credentials):
    """Let only this user in."""
    user, password = credentials.split(":")
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main(port, codec, credentials=None):
    """Serve ``rtsp://127.0.0.1:PORT/camera`` until standard input closes."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {PICTURE} ! {ENCODERS[codec]} name=pay0 )")
    factory.set_shared(True)
    if credentials:
        protect(server, factory, credentials)
    server.get_mount_points().add_factory("/camera", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    loop = GLib.MainLoop()
    GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


def check():
    """Name what is missing."""
    Gst.init(None)
    for element in ("videotestsrc", "x264enc", "rtph264pay", "jpegenc", "rtpjpegpay"):
        if Gst.ElementFactory.find(element) is None:
            sys.exit(f"no GStreamer element {element}")


if __name__ == "__main__":
    check() if sys.argv[1] == "check" else main(*sys.argv[1:])
