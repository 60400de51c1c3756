# Two commands: `make demo` runs the main job, `make test` passes the tests.
# Both set up everything they need in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint typecheck format clean

demo: $(READY)
	$(BIN)/python examples/digits/demo.py

test: lint typecheck
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The installed package is what is checked: only there do the folders lie under one name.
typecheck: $(READY)
	rm -rf $(VENV)/typecheck build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/typecheck .
	cd $(VENV)/typecheck && ../bin/mypy --config-file ../../pyproject.toml -p hsnn_compiler

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers (constraints-peers.txt) are used by tests only, which skip where they are missing.
# --no-deps keeps them from replacing torch or numpy.
$(READY): pyproject.toml constraints.txt constraints-peers.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,examples,lava,plot,spinnaker]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r constraints-peers.txt
	$(BIN)/hsnn-compile doctor --install lava
	touch $(READY)

clean:
	rm -rf $(VENV) build/lib build/bdist.* *.egg-info demo-out
