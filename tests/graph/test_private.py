"""Keras's private parts are touched in one room only."""

import ast
import pathlib

import kresnet

PACKAGE = pathlib.Path(kresnet.__file__).parent
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}
# Private to others than Keras: what LiteRT tells of a file's operators, argparse's class of subcommands, what the hub's
# client says of a file that it knows not to exist, and by what Optuna's storage knows a trial.
NOT_KERAS = {"_get_ops_details", "_SubParsersAction", "_CACHED_NO_EXIST", "_trial_id"}
BY_NAME = ("getattr", "setattr", "delattr", "hasattr")


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE | NOT_KERAS


def is_own(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_names(source):
    """Yields (line, text) of each access to a private attribute, or to `keras.src`, which is private as a whole."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src":
            yield node.lineno, "keras.src"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
            owner, name = node.args[:2]
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and not is_own(owner):
                yield node.lineno, name.value
        elif isinstance(node, ast.Constant) and str(node.value).startswith("keras.src"):
            yield node.lineno, node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for name in [f"{module}.{alias.name}" if module else alias.name for alias in node.names]:
                private = name.startswith("keras.") and any(is_private(part) for part in name.split("."))
                if private or f"{name}.".startswith("keras.src."):
                    yield node.lineno, name


def test_only_the_graph_touches_keras_s_private_parts():
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "graph"
        for line, name in private_names(path.read_text())
    ]
    assert not found, "belongs in kresnet/graph:\n" + "\n".join(found)


def test_the_scan_finds_each_way_to_a_private_name():
    source = """
        import keras.src
        from keras import src
        from keras.src.models import functional
        keras.src.backend
        layer._functional
        self.model._nodes = 1
        getattr(layer, "_inbound", None)
        layer.weights[0]._value
        importlib.import_module("keras.src.models")
        self._mine, cls._mine, row._replace(a=1), layer.__class__, getattr(self, "_mine")
        interpreter._get_ops_details()
        from kresnet import _anything
    """
    found = sorted(private_names("\n".join(line.strip() for line in source.splitlines())))
    assert [line for line, _ in found] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
