# make run: the whole walk on the sample photos.  make test: everything that is checked.  make quick: what takes seconds.
# make lab: JupyterLab.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LISTS := pyproject.toml constraints.txt

.PHONY: run test quick lab save report release kaggle sync format clean

run: $(VENV)/.notebooks
	$(BIN)/python tools/notebooks.py run

# an upload is one message to the server, which silently drops those above 10 MiB unless told otherwise
lab: $(VENV)/.notebooks
	$(BIN)/jupyter lab --ServerApp.tornado_settings="{'websocket_max_message_size': 536870912}" notebooks

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# before each commit
quick: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -m "not slow"

# for authors: execute the notebooks in place, execute and export the report, renew badges and first cells
save: $(VENV)/.notebooks
	$(BIN)/python tools/notebooks.py save

report: $(VENV)/.notebooks
	$(BIN)/python tools/notebooks.py save report
	$(BIN)/python tools/notebooks.py export

# a run becomes the release, with half-precision weights, scores, pictures and model card: make release RUN=name DATA=folder
# with TRAIN=folder their mean color is scored beside it, with BESIDE=run=label another run
release: $(VENV)/.notebooks
	$(BIN)/python tools/release.py $(RUN) --data $(DATA) $(if $(TRAIN),--train $(TRAIN)) $(if $(BESIDE),--beside "$(BESIDE)")

# what Kaggle's own tool uploads, in build/kaggle: make kaggle USER=name (the shell's USER, a login name, does not count)
kaggle:
	$(PYTHON) tools/kaggle.py "$(if $(filter command,$(origin USER)),$(USER))"

sync: $(VENV)/.notebooks
	$(BIN)/python tools/notebooks.py sync

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build outputs/notebooks

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "colorlib needs Python 3.11 or newer; name one: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/.notebooks: $(VENV)/bin/python $(LISTS)
	@echo "installing PyTorch, JupyterLab and the rest: once, a few minutes and about 5 GB"
	$(PIP) install --constraint constraints.txt --editable '.[notebooks,video]'
	@touch $@

# ipywidgets 7.7.1 is Colab's; it lies beside the environment's own, for the tests that use it
$(VENV)/.test: $(VENV)/.notebooks
	$(PIP) install --constraint constraints.txt --editable '.[notebooks,video,test]'
	$(PIP) install --no-deps --upgrade --target $(VENV)/overlay-ipywidgets7 ipywidgets==7.7.1 ipython-genutils==0.2.0
	@touch $@
