"""The demo server classifies what its own page sends, and answers nobody else."""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import shutil
import socket
import struct
import time

import keras
import numpy as np
import pytest
from demos import COLOURS, NAMES, SIZE, network, running, write_files
from PIL import Image
from processes import python

import kresnet
from kresnet.inference.demo import Demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def demo(folder):
    with running(folder / "colours.tflite", labels=folder / "labels.txt") as demo:
        yield demo


CLASSIFY = f"/classify?width={SIZE}&height={SIZE}"
BYTES = 4 * SIZE * SIZE


def ask(demo, method="POST", path=CLASSIFY, body=None, **headers):
    """Returns the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", demo.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()


def rgba(*colour, size=SIZE):
    return np.uint8([*colour, 255]).tobytes() * size * size


def test_answers(demo):
    expected = network().predict(np.float32([[[COLOURS[1] * 255] * SIZE] * SIZE]), verbose=0)[0]
    status, answer = ask(demo, body=rgba(0, 255, 0))
    predictions = json.loads(answer)["predictions"]
    order = np.argsort(-expected, kind="stable")[:5]
    assert (status, [p["label"] for p in predictions]) == (200, [NAMES[i] for i in order])
    np.testing.assert_allclose([p["probability"] for p in predictions], expected[order], atol=1e-2)
    assert json.loads(answer)["milliseconds"] > 0


def test_a_network_for_grey_images(tmp_path):
    kresnet.export(network(channels=1), tmp_path / "grey.tflite")
    with Demo(tmp_path / "grey.tflite", port=0) as demo:
        for colour, pixel in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((9, 9, 9), 9)):
            answer = demo.classify(rgba(*colour), SIZE, SIZE)["predictions"]
            expected = network(channels=1).predict(np.full((1, SIZE, SIZE, 1), pixel), verbose=0).max()
            assert answer[0]["probability"] == pytest.approx(expected, abs=1e-2)


def test_one_image_at_a_time(demo, monkeypatch):
    """The interpreter is not thread-safe, and the server has one thread per connection."""
    running, most, run = [], [], demo.model._run

    def watched(images):
        running.append(images)
        time.sleep(0.01)
        most.append(len(running))
        running.pop()
        return run(images)

    def label(i):
        _, answer = ask(demo, body=rgba(*np.uint8(255 * COLOURS[i % 5])))
        return json.loads(answer)["predictions"][0]["label"]

    monkeypatch.setattr(demo.model, "_run", watched)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(label, range(20))) == NAMES[:5] * 4
    assert max(most) == 1


def test_neither_keras_nor_tensorflow_is_loaded(folder):
    code = f"""
        import sys
        sys.argv = ["kresnet"]
        from kresnet.inference.demo import Demo
        with Demo({str(folder / "colours.tflite")!r}, port=0) as demo:
            print(len(demo.classify(bytes(4 * 90 * 70), 90, 70)["predictions"]))
        assert not {{"keras", "tensorflow"}} & set(sys.modules)
    """
    assert python(code).split()[-1] == "5"


def test_only_its_own_page_may_ask(demo):
    port, body = demo.server_port, rgba(0, 0, 0)
    for host, origin in ((f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"), (f"localhost:{port}", None)):
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        assert ask(demo, body=body, **headers)[0] == 200
        assert ask(demo, "GET", "/", **headers)[0] == 200
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": "null"},
    ):
        assert ask(demo, body=body, **headers)[0] == 403
        assert ask(demo, "GET", "/", **headers)[0] == 403
    assert demo.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/../cli.py", None, 404),
        ("GET", "/report.html", None, 404),
        ("POST", "/", rgba(0, 0, 0), 404),
        ("POST", CLASSIFY, b"", 400),
        ("POST", CLASSIFY, rgba(0, 0, 0)[:-1], 400),
        ("POST", CLASSIFY, rgba(0, 0, 0) + b"0", 400),
        ("POST", "/classify", rgba(0, 0, 0), 400),
        ("POST", "/classify?width=0&height=1", b"", 400),
        ("POST", "/classify?width=-1&height=-1", b"0000", 400),
        ("POST", "/classify?width=5000&height=5000", b"", 400),
        ("POST", f"/classify?width={'9' * 5000}&height=1", b"", 400),
        ("DELETE", "/", None, 501),
    ],
)
def test_other_requests_are_refused(demo, method, path, body, status):
    found, answer = ask(demo, method, path, body)
    assert found == status
    assert status == 501 or json.loads(answer)["error"]


def test_a_wrong_length(demo):
    """A body that is too long is not read, and an incomplete one is not classified."""
    for length, sent, status in ((10**12, b"", 400), (BYTES, b"too short", 400)):
        connection = http.client.HTTPConnection("127.0.0.1", demo.server_port, timeout=10)
        with contextlib.closing(connection):
            connection.putrequest("POST", CLASSIFY)
            connection.putheader("Content-Length", length)
            connection.endheaders(sent)
            connection.sock.shutdown(1)  # nothing more will be sent
            assert connection.getresponse().status == status
    assert ask(demo, body=rgba(0, 0, 0))[0] == 200


def seen(demo, picture):
    """What the network saw of a picture."""
    opaque = np.full_like(picture[..., :1], 255)
    content = (picture if picture.shape[2] == 4 else np.dstack([picture, opaque])).tobytes()
    answer = demo.classify(content, picture.shape[1], picture.shape[0])
    shape = (*demo.model.image_shape[:2], 4)
    return np.frombuffer(base64.b64decode(answer["seen"]), "uint8").reshape(shape)[..., :3]


def evaluated(picture, folder, size, **settings):
    """The same picture as `evaluate` loads it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / name / "x.png")
    return next(iter(kresnet.data.load(folder, "all", size, shuffle=False, **settings)))[0][0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(90, 200, 3), (201, 64, 3), (20, 31, 4)])  # the last one is transparent
def test_the_network_sees_what_evaluation_gives_it(folder, tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    kresnet.export(network(size=64), tmp_path / "big.tflite")
    wanted = {"crop_fraction": 0.9, "interpolation": "bicubic"}
    kresnet.export(network(), tmp_path / "wanting.tflite", description=wanted)
    (tmp_path / "wanting.json").write_text('{"crop_fraction": 0.3}')  # of a file that was there before
    for file, size, options, settings in (
        (folder / "colours.tflite", 32, {}, {}),
        (folder / "colours.tflite", 32, {"crop_fraction": 0.5}, {"crop_fraction": 0.5}),
        (tmp_path / "big.tflite", 64, {}, {}),
        (tmp_path / "wanting.tflite", 32, {}, wanted),
        (tmp_path / "wanting.tflite", 32, {"interpolation": "bilinear"}, wanted | {"interpolation": "bilinear"}),
    ):
        with Demo(file, port=0, **options) as demo:
            expected = evaluated(picture, tmp_path / "pictures", size, **settings)
            np.testing.assert_array_equal(seen(demo, picture), expected, f"{file} {options}")


def test_a_network_whose_images_are_not_square(tmp_path):
    """It sees the central window of its shape."""
    image = keras.Input((16, 32, 3))
    dense = keras.layers.Dense(2, activation="softmax")
    kresnet.export(keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(image))), tmp_path / "x.tflite")
    picture = np.zeros((64, 64, 3), "uint8")
    picture[16:48] = 255
    for interpolation in (None, "bicubic"):
        with Demo(tmp_path / "x.tflite", port=0, crop_fraction=1.0, interpolation=interpolation) as demo:
            assert (seen(demo, picture) == 255).all()


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"labels": "three.txt"}, "lines=3"),
        ({"labels": "none.txt"}, "labels='none.txt'"),
        ({"port": 70000}, "port=70000"),
        ({"port": -1}, "port=-1"),
        ({"crop_fraction": 0}, "crop_fraction=0"),
        ({"crop_fraction": 1.5}, "crop_fraction=1.5"),
        ({"threads": 0}, "threads=0"),
        ({"interpolation": "nearest"}, "interpolation='nearest'"),
    ],
)
def test_nonsense_is_refused(folder, options, received, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        Demo(folder / "colours.tflite", **{"port": 0} | options)


def test_a_network_without_probabilities_is_reported(tmp_path):
    kresnet.export(network(activation=None), tmp_path / "logits.tflite")
    with running(tmp_path / "logits.tflite") as demo:
        status, answer = ask(demo, body=rgba(255, 0, 0))
    assert status == 500
    assert "ends in softmax. Received: lowest=" in json.loads(answer)["error"]


def test_who_sends_byte_by_byte_is_dropped(demo, monkeypatch):
    monkeypatch.setattr(demo.RequestHandlerClass, "timeout", 0.3)
    start = time.perf_counter()
    with (
        socket.create_connection(("127.0.0.1", demo.server_port), timeout=10) as connection,
        contextlib.suppress(ConnectionError),
    ):
        while time.perf_counter() - start < 5:
            connection.sendall(b"G")
            time.sleep(0.05)
    assert time.perf_counter() - start < 3
    assert ask(demo, body=rgba(0, 0, 0))[0] == 200


def test_who_hangs_up_leaves_no_traceback(demo, capfd):
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", demo.server_port))
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: 127.0.0.1:{demo.server_port}\r\nContent-Length: {BYTES}\r\n\r\n"
        connection.sendall(head.encode() + rgba(0, 0, 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset
    assert ask(demo, body=rgba(0, 0, 0))[0] == 200
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def test_no_page_may_frame_it(demo):
    connection = http.client.HTTPConnection("127.0.0.1", demo.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert "frame-ancestors 'none'" in connection.getresponse().headers["Content-Security-Policy"]
