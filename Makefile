# make run: the main job.   make test: the tests.   make test-quick: the fast ones, while you edit.
# make test-slow: the long forms of what make test tries in short.
# Each makes .venv from the lock when it is missing or stale.
PYTHON ?= python3.11
BIN := .venv/bin
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: run test test-package test-notebooks test-quick test-slow coverage mutants lab serve mlflow bench drill drill-deliveries drill-offers attacks audit lock clean help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/installed  ## run all notebooks as one pipeline; ARGS="--help" shows its options
	$(BIN)/python run_all.py $(ARGS)

# A worker that crashes fails the run: restarted, it would hang for ever. Files keep their order: xdist
# would start those of few tests last, which are the long ones.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# The notebooks and the other tests need nothing of each other, so they run side by side.
test: .venv/installed  ## format, lint, types, all tests, and every notebook under nbval
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --jobs 2 --output-sync=none test-package test-notebooks

test-package: .venv/installed
	$(PYTEST) -m "not long" tests

test-notebooks: .venv/installed
	home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	CHURN_HOME="$$home" CHURN_REPORTS="$$home/reports" $(BIN)/python -m pytest -q -p tests.nbval_kernels --nbval-lax --nbval-current-env notebooks

test-quick: .venv/installed  ## lint and the fast unit tests: those without the marks slow and e2e
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(PYTEST) -q -m "not slow and not e2e and not long" tests

test-slow: .venv/installed .venv-client/installed  ## the long forms of the tests: every bad challenger, every way back, races
	$(PYTEST) -m long tests

coverage: .venv/installed .venv-coverage/installed  ## branch coverage of the package by its tests
	rm -f .venv-coverage/data*
	export COVERAGE_FILE="$(CURDIR)/.venv-coverage/data" PYTHONPATH="$(CURDIR)/.venv-coverage" && \
	COVERAGE_PROCESS_START="$(CURDIR)/pyproject.toml" $(PYTEST) -q -m "not long" tests && \
	$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report --skip-covered --sort=cover

mutants: .venv/installed .venv-mutants/installed  ## change the deciding modules at random: do their tests notice? ARGS="--help"
	$(BIN)/python benchmarks/mutants.py $(ARGS)

lab: .venv/installed  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ip 127.0.0.1 --notebook-dir notebooks

serve: .venv/installed  ## start the API of the default home on http://127.0.0.1:8000; ARGS="--help" shows its settings
	$(BIN)/python -m churn_utils serve $(ARGS)

mlflow: .venv/installed  ## open the MLflow UI of the default home on http://127.0.0.1:5000
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri "sqlite:///$(CURDIR)/data/mlflow/mlflow.db"

bench: .venv/installed .venv-peers/installed .venv-flaml/installed  ## measure model, search, gate, pipeline and serving; writes benchmarks/results.md
	$(BIN)/python benchmarks/model_quality.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/automl.py
	$(BIN)/python benchmarks/gauntlet.py
	$(BIN)/python benchmarks/estimates.py
	$(BIN)/python benchmarks/pipeline_time.py
	$(BIN)/python benchmarks/fast_path.py
	$(BIN)/python benchmarks/serving_throughput.py
	$(BIN)/python benchmarks/serving_endurance.py

drill: .venv/installed  ## run 20 years of every scenario and score the drift decisions; ARGS="--help" shows its options
	$(BIN)/python benchmarks/drill.py $(ARGS)

drill-deliveries: .venv/installed  ## send ten bad deliveries and all sound months through the checks of deliveries
	$(BIN)/python benchmarks/bad_deliveries.py $(ARGS)

drill-offers: .venv/installed  ## run 20 years in which offers are made, at several save rates; ARGS="--help" shows its options
	$(BIN)/python benchmarks/offers.py $(ARGS)

attacks: .venv/installed  ## attack an API of its own beside ordinary callers; ARGS="--soak 10" does so for ten minutes
	$(BIN)/python benchmarks/attacks.py $(ARGS)

audit: .venv/installed  ## list the licences of all locked packages, and known vulnerabilities where OSV can be reached
	$(BIN)/python benchmarks/audit.py

lock: .venv/installed  ## resolve requirements.lock and locks/ again
	PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade \
	    --extra dev --group data --output-file requirements.lock pyproject.toml
	PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes \
	    --python-version 3.11 --constraint requirements.lock --output-file locks/serving.lock locks/serving.in
	PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes \
	    --python-version 3.11 --output-file locks/peers.lock locks/peers.in
	# xgboost asks for NVIDIA's NCCL, 190 MB that a laptop has no use for
	echo "nvidia-nccl-cu12 ; sys_platform == 'never'" | PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes \
	    --python-version 3.11 --upgrade --override /dev/stdin --custom-compile-command "make lock" \
	    --output-file locks/flaml.lock locks/flaml.in
	PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade \
	    --custom-compile-command "make lock" --output-file locks/client.lock locks/client.in
	for name in coverage mutants; do PATH="$$PATH:$(BIN)" uv pip compile --universal --generate-hashes \
	    --python-version 3.11 --upgrade --custom-compile-command "make lock" \
	    --output-file locks/$$name.lock locks/$$name.in; done

clean:  ## delete tables, models, state and reports; data/raw and .venv stay
	# As clear_home does it: a home that is half cleared is no finished run, and the next run clears it.
	mkdir -p data/pipeline && touch data/pipeline/clearing && rm -f data/pipeline/state.json
	rm -rf data/lakehouse data/mlflow data/online data/optuna data/deliveries data/world.json data/offers.json
	find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf data/pipeline

# In a project that was moved or copied the programs in .venv/bin still start those of the old folder.
ifneq ($(wildcard .venv/bin/activate),)
ifeq ($(shell grep -cF "$(CURDIR)/.venv" .venv/bin/activate),0)
MOVED := moved
endif
endif

.PHONY: moved
moved:
	@echo "This folder was moved or copied: its .venv is made again."
	rm -rf .venv

# Byte-compiled while installing: the first run is 8 s faster for it.
.venv/installed: requirements.lock pyproject.toml $(MOVED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with  make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	PATH="$$PATH:$(BIN)" VIRTUAL_ENV="$(CURDIR)/.venv" uv pip install --quiet --compile-bytecode --no-deps --require-hashes -r requirements.lock
	PATH="$$PATH:$(BIN)" VIRTUAL_ENV="$(CURDIR)/.venv" uv pip install --quiet --no-deps --editable .
	touch $@

# What others serve the same model with, for the benchmarks alone (they also need wrk: apt-get install wrk).
.venv-peers/installed: locks/peers.lock
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	PATH="$$PATH:$(BIN)" VIRTUAL_ENV="$(CURDIR)/.venv-peers" uv pip install --quiet --no-deps --require-hashes -r locks/peers.lock
	touch $@

# FLAML is what the search is compared with; it has a lock and an environment of its own.
.venv-flaml/installed: locks/flaml.lock
	test -x .venv-flaml/bin/python || $(PYTHON) -m venv .venv-flaml
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	PATH="$$PATH:$(BIN)" VIRTUAL_ENV="$(CURDIR)/.venv-flaml" uv pip install --quiet --no-deps --require-hashes -r locks/flaml.lock
	touch $@

# What generates a client of the API in a test.
.venv-client/installed: locks/client.lock
	test -x .venv-client/bin/python || $(PYTHON) -m venv .venv-client
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	PATH="$$PATH:$(BIN)" VIRTUAL_ENV="$(CURDIR)/.venv-client" uv pip install --quiet --no-deps --require-hashes -r locks/client.lock
	touch $@

# Every process of the tests that finds these packages measures itself.
.venv-coverage/installed: locks/coverage.lock
	PATH="$$PATH:$(BIN)" uv pip install --quiet --no-deps --require-hashes --python $(BIN)/python --target .venv-coverage -r $<
	echo "import coverage; coverage.process_startup()" > .venv-coverage/sitecustomize.py
	touch $@

.venv-mutants/installed: locks/mutants.lock
	PATH="$$PATH:$(BIN)" uv pip install --quiet --no-deps --require-hashes --python $(BIN)/python --target .venv-mutants -r $<
	touch $@
