# Two commands on a fresh machine: `make story` and `make test`. Each makes its own .venv once and installs what is missing.
VENV   ?= .venv
# The first Python of 3.11 or later that this machine has.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
MODEL  ?= stories-16
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: story test test-all clean
.DEFAULT_GOAL := story

story: $(VENV)/core.stamp
	@$(VENV)/bin/textcosm generate --model $(MODEL) -n 4

test: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest -q -m "not slow"

# With the slow ones: whole studies on toy data, minutes more.
test-all: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest -q

# A stamp is older than pyproject.toml exactly when the dependencies may have changed; sources are used in place.
$(VENV)/core.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "textcosm needs Python 3.11 or later: install one, or run make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Installing textcosm into $(VENV), once (torch is large: this takes a few minutes) ..."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	@echo "Installing what the tests need ..."
	@$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
