"""Attacks on the demo. Survived: it answers a good request afterwards, and has printed no traceback.

The server is a process of its own, in which a request may take a second and not a minute, so that clients which drip
are dropped within the benchmark's time. An attack that has to be refused must not be answered with 200.
"""

import contextlib
import http.client
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

COUNT, QUICK, SIZE = 60, 12, 32
GOOD = f"/classify?width={SIZE}&height={SIZE}"
BYTES = 4 * SIZE * SIZE
SERVER = """
import sys
from kresnet.inference import demo
demo._Handler.timeout = 1
demo.serve(sys.argv[1], port=0)
"""


def tries(folder, rng, quick):
    from demos import write_files

    write_files(folder)
    attacks = list(_attacks(rng))
    assert len(attacks) == COUNT
    with _server(folder) as (port, printed):
        for name, attack in rng.sample(attacks, QUICK) if quick else attacks:
            wrong = None
            with contextlib.suppress(ConnectionError, TimeoutError):  # it was hung up on
                wrong = attack(port)
            yield _afterwards(name, wrong, port, printed)


def _afterwards(name, wrong, port, printed):
    try:
        answered = _good(port)
    except (OSError, http.client.HTTPException) as error:
        return f"{name}: no answer afterwards: {error!r}"
    if answered != 200:
        return f"{name}: answered with {answered} afterwards"
    text = printed.read_text()
    if "Traceback" in text:
        printed.write_text("")
        return f"{name}: {text.splitlines()[-1]}"
    return wrong and f"{name}: {wrong}"


@contextlib.contextmanager
def _server(folder):
    """Yields the port of a demo, and the file of what it prints on the standard error."""
    printed = folder / "printed"
    with printed.open("w") as file:
        command = [sys.executable, "-c", SERVER, str(folder / "colours.tflite")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        line = process.stdout.readline()
        yield int(line.split("127.0.0.1:")[1].split("/")[0]), printed
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def _good(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", GOOD, bytes(BYTES))
        return connection.getresponse().status


def _attacks(rng):
    """Yields names, and functions of the port that attack and return what was wrong with the answer."""
    host = "Host: 127.0.0.1:{port}\r\n"

    def sent(data, refused=True, end=True):
        def attack(port):
            text = data.replace(b"{port}", str(port).encode())
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(text)
                if end:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
            return "it was answered with 200" if refused and b" 200 " in answer.split(b"\r\n")[0] else None

        return attack

    def request(line, headers=host, body=b"", **options):
        return sent(f"{line} HTTP/1.1\r\n{headers}\r\n".encode("latin-1") + body, **options)

    def post(path=GOOD, length=BYTES, body=bytes(BYTES), more="", **options):
        return request(f"POST {path}", f"{host}Content-Length: {length}\r\n{more}", body, **options)

    for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PATCH", "get", "X" * 5000):
        yield f"method {method[:9]}", request(f"{method} {GOOD}")
    for path in (
        *("/../cli.py", "/%2e%2e/cli.py", "/..%2fcli.py", "//etc/passwd", "/demo.js/..", "/demo.js\0", "/report.html"),
        *("http://elsewhere/", "*", "/" + "a" * 70_000, "/?" + "a" * 60_000, "/\xff\xfe"),
    ):
        yield f"path {path[:12]!r}", request(f"GET {path}")
    for length in (BYTES - 1, BYTES + 1, 0, -1, 10**12, 10**400, "x", "", "0x1000", f"{BYTES}, {BYTES}", f"+{BYTES}"):
        yield f"length {str(length)[:9]!r}", post(length=length)
    for sides in ("", "?width=0&height=1", "?width=-1&height=-1", "?width=9999&height=9999", f"?width={'9' * 5000}"):
        yield f"sides {sides[:12]!r}", post(f"/classify{sides}")
    for name, headers in {
        "no host": "",
        "another host": "Host: evil.example\r\n",
        "another page": host + "Origin: http://evil.example\r\n",
        "no page": host + "Origin: null\r\n",
        "many headers": host + "".join(f"X-{i}: 1\r\n" for i in range(2000)),
        "a long header": host + f"X: {'a' * 70_000}\r\n",
        "a header that is none": "no colon\r\n" + host + "Origin: http://evil.example\r\n",
        "chunks": host + "Transfer-Encoding: chunked\r\n",
    }.items():
        yield name, request(f"POST {GOOD}", headers, b"5\r\nhello\r\n0\r\n\r\n")
    yield "another content type", post(more="Content-Type: text/html; charset=\xff\r\n", refused=False)
    yield "a form", post(more="Content-Type: multipart/form-data; boundary=x\r\n", refused=False)
    yield "half a body", post(body=b"half")
    yield "two requests at once", post(body=bytes(BYTES) + b"GET /../x HTTP/1.1\r\n\r\n", refused=False)
    yield "no HTTP", sent(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + rng.randbytes(500))
    yield "noise", sent(rng.randbytes(100_000))
    yield "nothing", sent(b"", refused=False)
    yield "an old version", sent(b"GET / HTTP/9.9\r\n\r\n")
    yield "no version", sent(b"GET /nowhere\r\n")
    yield "hang-up", lambda port: _hang_up(port, b"GET / HTTP/1.1\r\n")
    yield "hang-up in a body", lambda port: _hang_up(port, _head(port) + b"half")
    yield "hang-up before the answer", lambda port: _hang_up(port, _head(port) + bytes(BYTES))
    yield "drip", lambda port: _drip(port, b"G")
    yield "drip in a body", lambda port: _drip(port, _head(port))
    yield "a hundred that wait", _crowd


def _head(port):
    return f"POST {GOOD} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {BYTES}\r\n\r\n".encode()


def _hang_up(port, data):
    """Ends connections with a reset."""
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(data)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)


def _drip(port, data):
    """Sends a byte now and then, for longer than a request may take."""
    start = time.perf_counter()
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        connection.sendall(data)
        while time.perf_counter() - start < 4:
            connection.sendall(b"a")
            time.sleep(0.05)
        return "it was not dropped"


def _crowd(port):
    """Holds a hundred connections while others are answered."""
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)).sendall(b"GET / HTTP/1.1\r\n")
        found = []
        thread = threading.Thread(target=lambda: found.append(_good(port)))
        thread.start()
        thread.join(5)
        return None if found == [200] else "nobody else was answered"
