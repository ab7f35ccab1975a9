# Each target alone sets up all that it needs in .venv, from Python 3.11 or later.
PYTHON ?= python3
# TensorFlow would print a page of its own before the first line of ours.
export TF_CPP_MIN_LOG_LEVEL ?= 3
BIN := .venv/bin
# Each worker takes one half of the tests, so that what a file's tests share is made once, and then of the other's.
TESTS := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: quickstart photos test quick thorough lint benchmark arm64 table docs package clean

quickstart: .venv/examples  ## Train, export and check a network on embedded handwritten digits.
	$(BIN)/python examples/quickstart.py

photos: .venv/examples  ## Classify photographs with real ImageNet weights, fine-tune on eight classes, export int8.
	$(BIN)/python examples/fine_tune.py

# The tests that open pages need Chromium (Debian: apt install chromium chromium-driver), and are skipped without.
test: .venv/test
	$(TESTS)

quick: .venv/test  ## What tells most in the least time, for daily work.
	$(TESTS) -m "not slow and not thorough"

thorough: .venv/test  ## What `test` leaves out as too like the rest, before a release.
	$(TESTS) -m thorough

lint: .venv/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

benchmark: .venv/test
	$(BIN)/python benchmarks/grouped_conv.py
	$(BIN)/python benchmarks/build_time.py
	$(BIN)/python benchmarks/train_step.py

arm64: .venv/test  ## Compare exported files on emulated ARM64 processors with x86; needs an x86-64 Debian or Ubuntu.
	bash benchmarks/arm64/run.sh

table: .venv/test  ## Write anew what is made from the networks: tables, pictures of blocks, the catalogue, the stub.
	PYTHONPATH=tests:tools $(BIN)/python tools/network_tables.py

docs: .venv/docs  ## Build the site into build/site, without network; any warning is an error.
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html opens in a browser, search included."

package: .venv/test  ## Build the wheel and the source archive into dist, install each in a new environment, and try it.
	$(BIN)/python tools/package.py

.venv/examples: EXTRAS = examples
.venv/test: EXTRAS = augment,datasets,docs,examples,hub,jax,notebooks,onnx,search,test
.venv/lint: EXTRAS = lint
.venv/docs: EXTRAS = docs
.venv/%: setup.cfg
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
