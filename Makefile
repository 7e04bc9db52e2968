# Two commands set everything up: `make demo` and `make test`. Both build .venv on first use, with the versions of
# torch and torchaudio in constraints.txt: those that the suite is run with.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= avcil-demo
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo methods test check format lint types clean

demo: .venv/installed
	$(BIN)/avcil demo --out $(OUT)

# Every method in every modality on made-up tokens, and the table that compares them.
methods: .venv/installed
	$(BIN)/python -m benchmarks.methods

test: .venv/installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal

check: format lint types test

format: .venv/installed-test
	$(BIN)/ruff format --check .

lint: .venv/installed-test
	$(BIN)/ruff check .

# The repository root is the package, so mypy needs a folder in which it is called avcil.
types: .venv/installed-test
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/avcil
	cd .venv/types && MYPYPATH=. ../bin/mypy --config-file ../../pyproject.toml -p avcil

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
