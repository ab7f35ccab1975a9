"""Downloads by the real client of Hugging Face's hub, and by our own, from a server on this machine that misbehaves.

Whatever goes wrong is a ValueError, leaves nothing that is taken for the file later, and a good server then gives it.
"""

import errno
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kresnet.weights import downloads, hub

WEIGHTS = bytes(range(256)) * 8000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
COMMIT = "0123456789" * 4
REPOSITORY = "timm/resnet18.a1_in1k"
CONFIG = {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}
NAME = f"resnet18-{SHA256[:8]}.pth"
CLOSED = "http://127.0.0.1:9"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by their names, at the hub's addresses and at any others.

    `fault` is what it does wrong: "cut" ends the connection halfway through a file that is asked for from its start,
    "silent" ends it before the answer, "short" sends half a file as if it were all, "altered" sends other bytes,
    "whole" answers to ranges with all, "stranger" is no hub; a number is a status, with the hub's `code` for the error.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"model.safetensors": WEIGHTS, "config.json": json.dumps(CONFIG).encode(), NAME: WEIGHTS}
        self.fault, self.code, self.asked = None, "", []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def sent(self):
        """The ranges of the files that were sent, since this was last asked."""
        ranges = [ranged for command, ranged in self.asked if command == "GET"]
        self.asked.clear()
        return ranges


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Prints nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        fault, ranged = self.server.fault, self.headers.get("Range")
        if not self.path.startswith("/api/"):  # where the client asks for news of its own
            self.server.asked.append((self.command, ranged))
        if fault == "silent":
            return
        folder, _, name = self.path.rpartition("/")
        data = self.server.files.get(name)
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged and fault != "whole" else 0
        if folder == "/moved":
            self.answer(302, Location=f"/models/{name}")
        elif folder == "/unsafe":
            self.answer(302, Location=f"http://192.0.2.1/{name}")
        elif isinstance(fault, int):
            self.answer(fault, **{"X-Error-Code": self.server.code})
        elif data is None or start >= len(data):
            self.answer(404 if data is None else 416, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self.answer_with(data, start, fault)

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def answer_with(self, data, start, fault):
        algorithm = "sha1" if data.startswith(b"{") else "sha256"
        tag = hashlib.new(algorithm, data).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Linked-Etag": f'"{tag}"', "X-Linked-Size": len(data)}
        headers |= {} if fault == "stranger" else {"X-Repo-Commit": COMMIT}
        body = bytes(len(data)) if fault == "altered" else data
        body = body[: len(data) // 2] if fault == "short" else body[start:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if start else 200, Content_Length=len(body), **headers)
        if self.command == "GET":
            self.wfile.write(body[: len(data) // 2] if fault == "cut" and not start else body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refused(call, reason):
    """Checks that a call is refused for that reason, and by a message that says of what."""
    with pytest.raises(ValueError, match=rf"(?s){reason}.*\. Received: (repository|address)='[^']+'"):
        call()


def whole(file):
    return file.read_bytes() == WEIGHTS


@pytest.fixture
def own(server, tmp_path, monkeypatch):
    """Our own download of the server's file."""
    monkeypatch.setenv("KRESNET_HOME", str(tmp_path / "cache"))
    return lambda place="models": downloads.download(f"{server.address}/{place}/{NAME}")


@pytest.fixture
def client(server, tmp_path, monkeypatch):
    """The hub's client finds the server in place of the hub, or what the address is of that this is called with."""
    constants = pytest.importorskip("huggingface_hub.constants")

    def at(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "DOWNLOAD_CHUNK_SIZE", 102_400
    )  # what has come of a chunk when it is cut off is lost
    monkeypatch.setattr("time.sleep", lambda _: None)
    at(server.address)
    return at


def weights():
    return hub.weights_file(REPOSITORY)


def test_one_download_serves_all_calls(server, own, tmp_path):
    file = own()
    assert file == tmp_path / "cache" / NAME
    assert whole(file)
    assert server.sent() == [None]
    assert own() == own("elsewhere") == file
    assert server.sent() == []
    file.unlink()
    assert whole(own("moved"))


def test_the_cache_is_in_the_user_s(monkeypatch, tmp_path):
    monkeypatch.delenv("KRESNET_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert downloads.cache() == tmp_path / "kresnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads.cache() == Path.home() / ".cache" / "kresnet"
    monkeypatch.setenv("KRESNET_HOME", "~/weights")
    assert downloads.cache() == Path.home() / "weights"


def test_an_interrupted_download_is_gone_on_from(server, own, tmp_path):
    server.fault = "cut"
    refused(own, r"ended after 1024000 of 2048000 bytes; the next try goes on from there")
    assert not (tmp_path / "cache" / NAME).exists()
    server.fault = None
    assert whole(own())
    assert server.sent() == [None, "bytes=1024000-"]


@pytest.mark.parametrize(
    ("left", "fault"), [(1_000, None), (1_000, "whole"), (len(WEIGHTS), None)], ids=["some", "no ranges", "all"]
)
def test_what_a_killed_process_left_is_gone_on_from(server, own, tmp_path, left, fault):
    part = tmp_path / "cache" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(WEIGHTS[:left])
    server.fault = fault
    assert whole(own())
    assert server.sent() == [f"bytes={left}-"]
    assert not part.exists()


@pytest.mark.parametrize("fault", ["altered", "short"])
def test_a_download_of_other_bytes(server, own, tmp_path, fault):
    server.fault = fault
    refused(own, f"does not begin with {SHA256[:8]}: it was removed; try again")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f".{NAME}.lock"]
    server.fault = None
    assert whole(own())


def test_a_file_that_was_damaged_later_is_replaced(server, own):
    file = own()
    file.write_bytes(WEIGHTS[:-1] + b"\0")
    assert whole(own())
    assert server.sent() == [None, None]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (404, "has no such file"),
        (403, "status 403 Forbidden: try again later"),
        (503, "status 503 .*: try again later"),
        ("silent", "closed connection .*: check the network and HTTPS_PROXY, or put the file into .*cache"),
    ],
)
def test_a_server_that_gives_nothing(server, own, fault, reason):
    server.fault = fault
    refused(own, reason)
    server.fault = None
    assert whole(own())


def test_a_cache_that_cannot_be_written(own, tmp_path):
    cache = tmp_path / "cache"
    cache.write_text("a file, and no folder")
    refused(own, rf"The cache {cache} cannot be written .*KRESNET_HOME")
    cache.unlink()
    cache.mkdir()
    if os.path.exists("/dev/full"):
        (cache / f"{NAME}.part").symlink_to("/dev/full")
        refused(own, rf"The disk is full .*: {cache} needs room, or set KRESNET_HOME")


def test_a_file_in_a_cache_needs_neither_network_nor_lock(own, monkeypatch):
    file = own()
    monkeypatch.setattr(downloads, "_alone", None)
    assert downloads.download(f"{CLOSED}/{NAME}") == file


def test_no_network(own):
    refused(lambda: downloads.download(f"{CLOSED}/{NAME}"), "refused.*check the network")


@pytest.mark.parametrize(
    "address", [f"http://192.0.2.1/{NAME}", f"ftp://127.0.0.1/{NAME}", f"file:///{NAME}", NAME, f"https:///{NAME}"]
)
def test_only_https(own, address):
    refused(lambda: downloads.download(address), "must begin with https://")


def test_no_redirection_leaves_https(server, own):
    refused(lambda: own("unsafe"), "must begin with https://")


def test_a_hash_is_needed(server, own):
    plain = f"{server.address}/models/model.safetensors"
    refused(lambda: downloads.download(plain), "its SHA-256 begins with")
    refused(lambda: downloads.download(plain, "xyz"), "its SHA-256 begins with")
    refused(lambda: downloads.download(f"{server.address}/..", SHA256), "named by its address")
    refused(lambda: downloads.download(plain, "0" * 8), "does not begin with 00000000")
    assert whole(downloads.download(plain, SHA256.upper()))


def test_downloads_of_one_file_wait_for_each_other(server, own):
    files = []
    threads = [threading.Thread(target=lambda: files.append(own())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files) == 4
    assert all(map(whole, files))
    assert server.sent() == [None]


def test_the_hub_s_files_are_downloaded_once(server, client):
    file = weights()
    assert file.name == "model.safetensors"
    assert whole(file)
    assert hub.config(REPOSITORY) == CONFIG
    assert server.sent() == [None, None]
    assert weights() == hub.hugging_face(REPOSITORY, "model.safetensors", COMMIT) == file
    assert server.sent() == []


@pytest.mark.parametrize("fault", ["nothing listens", "silent", 503, "stranger", 401, 403])
def test_what_the_hub_gave_needs_no_hub(server, client, fault):
    file = weights()
    server.fault = fault
    if fault == "nothing listens":
        client(CLOSED)
    assert weights() == file


@pytest.mark.slow
def test_the_environment_s_settings(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    code = f"import runpy; print(runpy.run_path({hub.__file__!r})['weights_file']({REPOSITORY!r}))"
    settings = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def run(**more):
        settings.update(more)
        return subprocess.run([sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True)

    assert "HF_HUB_OFFLINE is set: unset it once" in run(HF_HUB_OFFLINE="1").stderr
    assert server.asked == []
    file = Path(run(HF_HUB_OFFLINE="0").stdout.strip())
    assert whole(file)
    assert file.is_relative_to(tmp_path)
    server.sent()
    assert run(HF_HUB_OFFLINE="1").stdout.strip() == str(file)
    assert server.asked == []


def test_the_client_goes_on_after_an_interruption(server, client):
    server.fault = "cut"
    assert whole(weights())
    assert server.sent() == [None, "bytes=1024000-"]


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("altered", "", "SHA-256 is not the hub's: it was removed from the cache; try again"),
        ("short", "", "not the length that the hub says: nothing is kept of it; try again"),
        ("silent", "", "has not been downloaded before .*: check the network, HTTPS_PROXY and HF_ENDPOINT"),
        ("stranger", "", "refuses: .*does not seem to be served by a Hugging Face Hub"),
        (404, "RepoNotFound", "no such repository, or it is private: set HF_TOKEN"),
        (401, "", "no such repository, or it is private: set HF_TOKEN"),
        (401, "GatedRepo", "accept the terms on the repository's page, and set HF_TOKEN"),
        (403, "GatedRepo", "accept the terms on the repository's page, and set HF_TOKEN"),
        (403, "", "Access is refused"),
        (404, "RevisionNotFound", "no such revision"),
        (404, "EntryNotFound", r"has no model\.safetensors nor pytorch_model\.bin"),
        (503, "", "answers with status 503: try again later"),
    ],
)
def test_a_hub_that_gives_nothing(server, client, tmp_path, fault, code, reason):
    server.fault, server.code = fault, code
    refused(weights, reason)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1_000]
    server.fault = None
    assert whole(weights())


def test_a_hub_that_cannot_be_reached(client):
    client(CLOSED)
    refused(weights, "has not been downloaded before .*: check the network, HTTPS_PROXY and HF_ENDPOINT")


def test_a_file_of_the_hub_that_was_damaged_later(server, client, tmp_path):
    file = weights()
    blob = file.resolve()
    store = tmp_path / "hf" / ("f" * 64)  # where the client may keep what repositories share, under another hash
    blob.rename(store)
    blob.symlink_to(store)
    assert whole(weights())
    store.write_bytes(WEIGHTS[:-1] + b"\0")
    refused(weights, "SHA-256 is not the hub's")
    assert not any(map(os.path.lexists, (store, blob, file)))
    assert whole(weights())


def test_a_hub_s_cache_that_cannot_be_written(client, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "hf").write_text("a file, and no folder")
    refused(weights, r"The cache \S*/hf/hub cannot be written .*: set HF_HOME")
    (tmp_path / "hf").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        refused(weights, r"The disk is full .*: \S*/hf/hub needs room, or set HF_HOME")
    assert whole(weights())


def test_pytorch_s_file_where_there_is_no_other(server, client):
    server.files["pytorch_model.bin"] = server.files.pop("model.safetensors")
    file = weights()
    assert file.name == "pytorch_model.bin"
    client(CLOSED)
    assert weights() == file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"architecture": ', "is not JSON .*: remove it"),
        (b'{"architecture": "\xff"}', "is not JSON .*: remove it"),
        (b'{"architectures": ["Bert"]}', "does not say which of timm's architectures"),
        (b"[]", "does not say which of timm's architectures"),
        (b'{"architecture": "resnet18", "num_classes": "ten"}', "its num_classes is not of type int"),
        (b'{"architecture": "resnet18", "pretrained_cfg": []}', "its pretrained_cfg is not of type dict"),
    ],
)
def test_a_config_that_is_not_timm_s(server, client, text, reason):
    server.files["config.json"] = text
    refused(lambda: hub.config(REPOSITORY), reason)


def test_arguments_and_a_client_that_is_not_installed(server, client, monkeypatch):
    for repository in ("no-owner", "a/b/c", "", None):
        with pytest.raises(ValueError, match=re.escape(f"'owner/name'. Received: repository={repository!r}")):
            hub.weights_file(repository)
    refused(lambda: hub.hugging_face(REPOSITORY, "../x"), "refuses: Invalid filename")
    refused(lambda: hub.weights_file("a--b/c"), "refuses: ")
    assert server.asked == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(weights, r"pip install 'kresnet\[hub\]'")
