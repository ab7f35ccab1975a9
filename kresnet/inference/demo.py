"""A page on this machine that shows how a .tflite file classifies pictures and what the camera sees."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

from kresnet import checks
from kresnet.data import images
from kresnet.inference import preprocessing
from kresnet.inference.tflite_file import TFLiteFile

_PAGES = Path(__file__).parent / "pages"
# Of a picture, 64 MB: the page shrinks larger ones before it sends them.
_PIXEL_LIMIT = 1 << 24
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_POLICY += "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Demo(http.server.ThreadingHTTPServer):
    """Serves the page and classifies the pixels that it sends; can be reached from this machine only.

    The page decodes pictures and rotates them upright; the server crops and resizes them as `evaluate` does, and the
    page's canvas shows what the network sees.

    Attributes:
        url: the address of the page.
        model: the file as a `TFLiteFile`.
        labels: the class names in order.

    Args:
        path: a `.tflite` that takes RGB or grey pixels, 0 to 255, and returns probabilities.
        labels: a text file with one class per line. Default: the names inside the `.tflite`, else the class numbers.
        port: 0 to 65535; 0 means any free port.
        threads: CPU threads that a run may use, at least 1.
        crop_fraction, interpolation: as in `kresnet.data.load`. Default: what `export` wrote into the file; of a file
            that says nothing, what `x.json` beside `x.tflite` says; else that function's defaults.

    Raises:
        ValueError: if the file is not such a classifier, there are not as many labels as classes, or the port is taken.
    """

    daemon_threads = True

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        labels: str | os.PathLike | None = None,
        port: int = 8000,
        threads: int = 1,
        crop_fraction: float | None = None,
        interpolation: str | None = None,
    ):
        import jinja2

        self.model = TFLiteFile(path, threads)
        height, width, channels = shape = self.model.image_shape
        fits = height > 0 and width > 0 and channels in (1, 3)
        checks.require(fits, f"{path} must take images of a fixed size with 1 or 3 channels", image_shape=shape)
        known = preprocessing.told(preprocessing.description_for(path, self.model.description))
        wanting = preprocessing.Wanting(str(path), **known)
        self._wanted = preprocessing.wanted([wanting], min(height, width), crop_fraction, interpolation)
        self.labels = self._names(labels)
        self._lock = threading.Lock()  # the interpreter is not thread-safe
        page = jinja2.Environment(loader=jinja2.FileSystemLoader(_PAGES), autoescape=True).get_template("demo.html")
        text = page.render(
            name=Path(path).name,
            megabytes=Path(path).stat().st_size / 1e6,
            classes=self.model.classes,
            width=width,
            height=height,
            crop=self._wanted["crop_fraction"],
            pixel_limit=_PIXEL_LIMIT,
        )
        self.pages = {
            "/": ("text/html", text.encode()),
            "/demo.js": ("text/javascript", (_PAGES / "demo.js").read_bytes()),
            "/demo.css": ("text/css", b"".join((_PAGES / name).read_bytes() for name in ("style.css", "demo.css"))),
        }
        checks.require(0 <= checks.integer("port", port, minimum=0) < 65536, "`port` must be below 65536", port=port)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ValueError(f"The port cannot be opened: {error.strerror}. Received: port={port}") from None
        # A foreign page can make its own name resolve to this address, but its requests carry that name.
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over clients that hang up; any other error is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def _names(self, file: str | os.PathLike | None) -> list[str]:
        if file is None:
            return self.model.labels or [str(i) for i in range(self.model.classes)]
        try:
            names = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"The labels cannot be read: {error}. Received: labels={str(file)!r}") from None
        checks.require(
            len(names) == self.model.classes,
            f"{file} must have one line for each of the {self.model.classes} classes",
            lines=len(names),
        )
        return names

    def classify(self, content: bytes, width: int, height: int) -> dict[str, Any]:
        """Classifies a picture.

        Args:
            content: red, green, blue and alpha of every pixel, row by row; what is transparent lies on white.
            width, height: of the picture in pixels.

        Returns:
            "predictions": the five most probable classes (fewer if there are fewer) in descending order, each as
            {"label", "probability"}; "milliseconds": how long the run took; "seen": what the network saw, red, green,
            blue and alpha of every pixel in base64.

        Raises:
            ValueError: if the outputs are not probabilities.
        """
        picture = np.frombuffer(content, "uint8").reshape(height, width, 4)
        opaque = picture[..., :3]
        if picture[..., 3].min() < 255:
            opaque = np.asarray(images.over_white(Image.fromarray(picture)))
        pixels = preprocessing.prepared(opaque, self.model.image_shape, **self._wanted)
        with self._lock:
            start = time.perf_counter()
            (output,) = self.model(pixels[None])
            milliseconds = 1000 * (time.perf_counter() - start)
        low, high = float(output.min()), float(output.max())
        checks.require(
            low >= 0 and high <= 1.01,
            f"{self.model.name} does not return probabilities: export a network that ends in softmax",
            lowest=low,
            highest=high,
        )
        top = np.argsort(-output, kind="stable")[:5]
        predictions = [{"label": self.labels[i], "probability": float(output[i])} for i in top]
        seen = np.full((*pixels.shape[:2], 4), 255, "uint8")
        seen[..., :3] = pixels
        return {
            "predictions": predictions,
            "milliseconds": milliseconds,
            "seen": base64.b64encode(seen.tobytes()).decode(),
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a camera sends many images over one connection
    timeout = 60  # seconds for a request, waiting for it included
    server: Demo

    def handle_one_request(self) -> None:
        # The socket's own timeout begins anew with every byte: who sends one at a time would stay for ever.
        timer = threading.Timer(self.timeout, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            super().handle_one_request()
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        if self._from_elsewhere():
            return self._answer(403, {"error": "Only the page on this machine may ask."})
        if self.path not in self.server.pages:
            return self._answer(404, {"error": "There is no such page."})
        return self._send(200, *self.server.pages[self.path])

    def do_POST(self) -> None:
        if self._from_elsewhere():
            return self._answer(403, {"error": "Only the page on this machine may ask."})
        address = urlsplit(self.path)
        if address.path != "/classify":
            return self._answer(404, {"error": "There is no such page."})
        asked = dict(parse_qsl(address.query))
        sides = [asked.get(name, "") for name in ("width", "height")]
        width, height = (int(side) if side.isdecimal() and len(side) < 9 else 0 for side in sides)
        if not 0 < width * height <= _PIXEL_LIMIT:
            return self._answer(400, {"error": f"A picture has width and height, and at most {_PIXEL_LIMIT} pixels."})
        expected = 4 * width * height
        if self.headers.get("Content-Length") != str(expected):
            return self._answer(400, {"error": f"That picture must be {expected} bytes: RGBA for each pixel."})
        content = self.rfile.read(expected)
        if len(content) < expected:
            return self._answer(400, {"error": "The image is incomplete."})
        try:
            return self._answer(200, self.server.classify(content, width, height))
        except ValueError as error:
            return self._answer(500, {"error": str(error)})

    def _from_elsewhere(self) -> bool:
        origin = self.headers.get("Origin")  # browsers send it for pages; other programs do not
        allowed = origin is None or origin.removeprefix("http://") in self.server.hosts
        return not allowed or self.headers.get("Host") not in self.server.hosts

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        if status >= 400:
            self.close_connection = True  # the rest of the request may not have been read
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Does nothing: a camera sends many images per second."""


def serve(path: str | os.PathLike, *, open_browser: bool = False, **options: Any) -> None:
    """Serves the page until Ctrl-C is pressed, and prints its address.

    Args:
        path: the `.tflite`.
        open_browser: whether to open the page in the default browser.
        **options: labels, port, threads, crop_fraction and interpolation, as for `Demo`.

    Raises:
        ValueError: as for `Demo`.
    """
    with Demo(path, **options) as demo, contextlib.suppress(KeyboardInterrupt):
        print(f"{demo.model.name} is at {demo.url}; stop with Ctrl-C", flush=True)
        if open_browser:
            webbrowser.open(demo.url)
        demo.serve_forever()
