"""The house: which room may import which, what an import costs, and what editors and type checkers see."""

import ast
import pathlib
import re
import subprocess
import sys
import textwrap

import network_tables
import pytest
import stub

import kresnet
from kresnet.models import registry

PACKAGE = pathlib.Path(kresnet.__file__).parent


def test_imports_run_one_way():
    """The order of the rooms is in setup.cfg."""
    command = [pathlib.Path(sys.executable).with_name("lint-imports"), "setup.cfg", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stdout


def test_only_absolute_imports_so_that_the_order_can_be_read():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_no_folder_or_module_hides_behind_another_name():
    """What `kresnet.deploy.export` means does not depend on what was imported before."""
    for path in PACKAGE.rglob("__init__.py"):
        modules = {child.stem for child in path.parent.iterdir()} - {"__init__"}
        package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        names = set(kresnet.__all__) if package == "kresnet" else set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module != package:
                names |= {alias.asname or alias.name for alias in node.names}
        assert modules & names <= {"data", "search"}, path  # which are the rooms themselves


def test_the_stub_is_current():
    assert stub.FILE.read_text() == stub.text(), "run `make table`"


@pytest.mark.thorough
def test_a_type_checker_knows_the_arguments(tmp_path):
    file = tmp_path / "used.py"
    file.write_text(
        textwrap.dedent(
            """
            import kresnet

            model = kresnet.ResNet50(classes=5, stem="deep", se_reduction=16, phi=1.0)
            kresnet.EfficientNet(table=((1, 8, 1, 1, 3, 0.0),))
            kresnet.VGG16_BN(dense_widths=(64,), include_top=True)
            kresnet.ResNet50(clases=5)
            kresnet.MobileNetV2(groups=2)
            kresnet.ResNet18(stem=7)
            kresnet.create_model(5)
            kresnet.ResNet51
            reveal_type(model)
            """
        )
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports", "--no-incremental"]
    printed = subprocess.run([*command, file], capture_output=True, text=True, cwd=PACKAGE.parent).stdout
    found = re.findall(r"used\.py:(\d+): error: (.*?)  \[(.*?)\]", printed)
    assert [(int(line), kind) for line, _, kind in found if int(line) > 5] == [
        (7, "call-arg"),
        (8, "call-arg"),
        (9, "arg-type"),
        (10, "arg-type"),
        (11, "attr-defined"),
    ], printed
    assert '"clases"' in found[-5][1]


def test_families_are_listed_once():
    """A family that no list names would be found by none of the walks over all networks."""
    holders = [path for path in (PACKAGE / "models").rglob("*.py") if "variant(" in path.read_text()]
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in holders}
    assert modules - {"kresnet.models.registry"} == set(registry.FAMILIES), "in models/registry.py"


def test_names_complete():
    assert {"ResNet50", "VGG16", "train", "EfficientNet", "data"} <= set(dir(kresnet))
    namespace = {}
    exec("from kresnet import *", namespace)
    assert set(kresnet.__all__) <= set(namespace)
    with pytest.raises(AttributeError, match=r"module 'kresnet' has no attribute 'ResNet5O'\. Did you mean 'ResNet5"):
        _ = kresnet.ResNet5O
    with pytest.raises(AttributeError, match="has no attribute 'export_all'"):
        _ = kresnet.export_all


def test_a_key_is_registered_once():
    builder = kresnet.ResNet18
    with pytest.raises(ValueError, match=r"a network of that key already\. Received: key='resnet18', name='ResNet18'"):
        registry.variant("ResNet18", builder.family, builder.spec, paper=builder.paper)
    assert kresnet.get_builder("resnet18") is builder


def test_lists_are_sorted_as_people_do():
    keys = kresnet.list_models("resnet1*")
    assert keys.index("resnet18") < keys.index("resnet101") < keys.index("resnet110") < keys.index("resnet1202")
    assert [row["key"] for row in network_tables.catalogue.rows()] == kresnet.list_models(), "run `make table`"
