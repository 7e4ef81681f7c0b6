# `make book` and `make test` work from a fresh clone. VENV=0 installs into the current environment and keeps its torch;
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch without CUDA; SP4D_PROFILE=ci|cpu|gpu sets the size of it all.
VENV ?= 1
ifeq ($(VENV),0)
  PYTHON ?= $(shell command -v python || command -v python3)
  RUN := $(PYTHON)
  SETUP := $(PYTHON) tools/setup_env.py --no-venv
else
  PYTHON ?= $(shell command -v python3.11 || command -v python3)
  RUN := .venv/bin/python
  SETUP := $(PYTHON) tools/setup_env.py
endif

IN_BOOK = start=$$(date +%s) && $(SETUP) && SP4D_STARTED=$$start $(RUN) -m tools.book

.PHONY: help setup book test workshop measure lock clean
.DEFAULT_GOAL := help

help:           ## this list
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' Makefile | expand -t 18

setup:          ## install everything (book and test do it by themselves)
	@$(SETUP)

book:           ## execute what changed, render the book, print its path and the minutes
	@$(IN_BOOK) build

test:           ## lint, unit tests, chapters, strict build, offline check, browser test
	@$(IN_BOOK) test

workshop:       ## zip the offline book and the chapters without solutions
	@$(IN_BOOK) workshop

measure:        ## run each chapter alone; write its minutes and memory into data/results and its card
	@$(IN_BOOK) measure

lock:           ## resolve the ranges in a fresh environment and write requirements/lock.txt
	@$(PYTHON) tools/make_lock.py

clean:          ## remove what was built (not .venv)
	rm -rf _build book/_static/vendor book/node_modules
