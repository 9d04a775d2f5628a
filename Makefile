# Two commands: `make book` and `make test`. Each sets itself up on a fresh machine.
PYTHON   ?= python3
VENV     ?= .venv
BUDGET   ?= laptop
CHAPTER  ?=
WORKERS  ?= 2

PY    := $(VENV)/bin/python
READY := $(VENV)/.ready
SMOKE := LSSEG_EDU_BUDGET=smoke TQDM_DISABLE=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with scripts/nbval.cfg \
         --nbval-cell-timeout 600 --ignore-glob '*_student.ipynb' \
         -n $(WORKERS) --dist loadscope --durations 10

.PHONY: help book test smoke check site setup lab notebooks execute scoreboard clean
.DELETE_ON_ERROR:

help:
	@echo "make book        read it: set up, execute what has no valid outputs, build the site"
	@echo "make test        prove it: code, every chapter and lab, the site in a browser"
	@echo "make lab         open JupyterLab"
	@echo "make notebooks   write the notebooks from their sources"
	@echo "make execute     execute chapters  [CHAPTER=semi/consistency] [BUDGET=smoke|laptop|gpu]"
	@echo "make scoreboard  run what the scoreboard lacks, print the table  [ARGS='--seeds 5']"
	@echo "make clean       remove what was built"

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The book is built with Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --retries 5 -r requirements.txt
	$(PY) -m pip install --retries 5 --no-deps -e .
	$(PY) -c "import matplotlib.font_manager"
	@touch $@

book: $(READY)
	$(PY) scripts/notebooks.py
	OMP_NUM_THREADS=1 $(PY) scripts/execute.py --budget $(BUDGET)
	@$(MAKE) --no-print-directory site

site: $(READY)
	$(VENV)/bin/jupyter-book build . --all -W --keep-going
	$(PY) scripts/pages.py

check: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) scripts/notebooks.py --check

test: check site
	$(SMOKE) $(PY) -m pytest tests book $(NBVAL)

# the same without the site and its checks: what the newest releases must still pass
smoke: $(READY)
	$(SMOKE) $(PY) -m pytest tests book $(NBVAL) --ignore tests/test_site.py \
	  --ignore tests/test_repository.py

lab: $(READY)
	$(VENV)/bin/jupyter lab book

notebooks: $(READY)
	$(PY) scripts/notebooks.py $(CHAPTER)

execute: $(READY)
	$(PY) scripts/notebooks.py $(CHAPTER)
	OMP_NUM_THREADS=1 $(PY) scripts/execute.py --budget $(BUDGET) $(CHAPTER)

scoreboard: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m lsseg_edu.study run $(ARGS)
	$(PY) -m lsseg_edu.study table

clean:
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .hypothesis
