# make demo: set up, then run the main job on real clips.   make test: set up, then run the tests.
# Both set everything up the first time and do little the second. Settings: PYTHON, VENV, TORCH (a pip requirement).

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test lint format tidy bench docs corpus-check fuzz asan tsan soak wheel setup clean
.DEFAULT_GOAL := test

demo: setup
	$(BIN)/python examples/demo.py
	$(BIN)/python examples/train_i3d.py --demo --budget short --out runs/demo

test: setup
	$(BIN)/python -m pytest

# What .ci/run checks besides the tests. Where the extension is still to be built, the compiler's warnings are errors.
lint: export VIDLOAD_CMAKE_ARGS += -DVIDLOAD_WERROR=ON
lint: setup
	$(PIP) --group lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tests/stubtest_allowlist.txt --ignore-unused-allowlist vidload._core vidload._testing
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/*.cpp' 'tests/*.h' | xargs $(BIN)/clang-format --dry-run --Werror

format: setup
	$(PIP) --group lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/*.cpp' 'tests/*.h' | xargs $(BIN)/clang-format -i

# clang-tidy over the core, with the checks of .clang-tidy. Takes minutes, so .ci/run leaves it out.
tidy: setup
	$(PIP) clang-tidy==19.1.0.1
	$(BIN)/cmake -S . -B build/tidy -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
	git ls-files 'csrc/*.cpp' | grep -v _neon | xargs -P $$(nproc) -n 1 $(BIN)/clang-tidy -p build/tidy --quiet --extra-arg=-w

bench: setup
	$(BIN)/python bench/peers.py --install
	$(BIN)/python bench/loader_vs_decord.py
	$(BIN)/python bench/frame_vs_video.py

# The documentation site, in build/site; open build/site/index.html. Needs neither a compiler nor torch.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

$(VENV)/.docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(shell sed -n 's/^docs = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",')
	@touch $@

# Every frame of every video under DIR against a sequential decode.
corpus-check: setup
	$(BIN)/python tests/corpus_check.py "$(DIR)"

# SECONDS=600 in total: the project's own C++ under libFuzzer with sanitizers, the list readers, and whole files; see tests/fuzz.
fuzz: setup
	TOTAL_SECONDS=$(or $(SECONDS),600) PYTHON=$(BIN)/python sh tests/fuzz/run.sh

# The tests that drive the C++, with AddressSanitizer and UBSan, or with ThreadSanitizer. Each has its own build, in build/.
asan: setup
	BIN=$(BIN) sh tests/sanitize.sh address,undefined

tsan: setup
	BIN=$(BIN) sh tests/sanitize.sh thread

# CLIPS=200000 from good and bad files, with loaders abandoned 500 times: memory, handles and threads must stay as they were.
soak: setup
	$(BIN)/python tests/soak.py --clips $(or $(CLIPS),200000)

# dist/vidload-*.whl for PYTHON (or PYTHONS="python3.11 python3.13"), with FFmpeg inside: docs/install.md. ARCH=aarch64: for ARM.
wheel:
	bash packaging/wheel.sh $(or $(PYTHONS),$(PYTHON))

setup: $(VENV)/.built

$(VENV)/.built: $(VENV)/.packages $(SOURCES)
	$(PIP) --no-build-isolation --editable ".[test]"
	@touch $@

$(VENV)/.packages: pyproject.toml
	@PYTHON=$(PYTHON) sh .ci/system_packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Python packages into $(VENV) (the first time takes a few minutes)"
	$(PIP) --upgrade pip
	$(PIP) "$(TORCH)"
	sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",' | xargs $(PIP)
	@touch $@

clean:
	rm -rf build $(VENV) *.egg-info vidload/_core*.so vidload/_testing*.so
