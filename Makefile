# `make demo` and `make test` set up what they need by themselves; see README.md.
PYTHON ?= python3
export PYTHONUNBUFFERED = 1
# Where Python may not keep what it has compiled, as in many containers, each start takes twice as long. Ours stay in here.
unexport PYTHONDONTWRITEBYTECODE
# Detectron2 scripts functions while it is imported, of which PyTorch warns; its users can do nothing about it.
export PYTHONWARNINGS = ignore::FutureWarning:torch.jit._script
RUN = .venv/bin/python
QUICKSTART = output/quickstart/panoptic
DATASETS = $(or $(DETECTRON2_DATASETS),datasets)
WORKERS ?= 2
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
	--override requirements/overrides.txt
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) -m "not slow"
# What computes on a CPU, but for names and sizes of published networks, compilers, which ask the processor themselves, and
# trainings of many steps, of which one (test_overfit) is enough.
COMPUTING = tests/ops tests/modeling tests/engine/test_train_step.py -k "not ($(NOT_COMPUTING))"
NOT_COMPUTING = test_published_ or compile or graph_break or opcheck or imported or exported or multiply_adds \
	or it_learns or test_the_loss_falls or lowers_the_loss or instruction_set
# Whole files: what make test does a little of, too.
TORTURE = tests/test_files.py tests/test_out_of_memory.py \
	tests/checkpoint/test_hostile_weights.py tests/checkpoint/test_whole.py \
	tests/config/test_hostile_yaml.py tests/config/test_safe_yaml.py \
	tests/custom/test_one_rule_set.py \
	tests/data/images/test_damage.py tests/data/images/test_limits.py \
	tests/data/checks/test_seeded_faults.py tests/data/test_climbing.py \
	tests/engine/test_resuming.py tests/engine/test_interruption.py tests/engine/test_killed_rank.py \
	tests/engine/test_diverging.py tests/engine/test_optimizer_state.py \
	tests/evaluation/test_sound_truth.py tests/evaluation/test_truth_of_records.py tests/evaluation/test_partial.py \
	tests/evaluation/test_partial_files.py tests/checkpoint/test_reading_memory.py \
	tests/predictor/test_threads.py tests/preflight/test_evaluation.py

.PHONY: help setup extras setup-run demo test test-portable test-shuffled shuffled lint slow torture cuda-check gpu-bundle gpu-check slurm-check wheel wheel-check site lock audit clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## make .venv: pinned packages, Detectron2, the compiled operator
	@$(PYTHON) tools/setup_env.py

extras: setup  ## add Ray and supervision to .venv, without which their tests are skipped
	if [ -x .venv/bin/uv ]; then .venv/bin/uv pip install --quiet --python $(RUN) -r requirements/extras.txt; \
		else $(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/extras.txt; fi

setup-run:  ## make .venv as setup does, without what only tests, linters and exporting need
	@$(PYTHON) tools/setup_env.py --for run

demo: setup-run  ## draw the quickstart data set, train on it, score and draw predictions
	$(RUN) datasets/draw_quickstart.py
	$(RUN) train_net.py --quiet --config-file configs/quickstart/panoptic.yaml
	$(RUN) tools/draw_predictions.py --config-file configs/quickstart/panoptic.yaml \
		MODEL.WEIGHTS $(QUICKSTART)/model_final.pth
	@echo
	@echo "Scores: above. Report, to open in a browser: $(QUICKSTART)/report.html    Curves: $(QUICKSTART)/curves.html"
	@echo "Predictions beside the ground truth: $(QUICKSTART)/images    Log: $(QUICKSTART)/log.txt"
	@echo "Weights: $(QUICKSTART)/model_final.pth    Data set: $(DATASETS)/quickstart"
	@echo "Next: draw on an image of your own choice:"
	@echo "  $(RUN) demo/demo.py --model $(QUICKSTART) --input $(DATASETS)/quickstart/images/val/000001.png"

test: setup lint  ## lint, types and all tests but the slow ones, then test-portable
	@$(PYTEST)
	@$(MAKE) --no-print-directory test-portable

# The first of them is left out where it would be make test once more: on processors with AVX2 alone.
test-portable: setup  ## what computes, as on processors with AVX2 alone and with neither AVX2 nor AVX-512
	if $(RUN) -c "import sys, torch; sys.exit(torch.backends.cpu.get_cpu_capability() != 'AVX2')"; then \
		echo "This processor has AVX2 alone: make test has run what computes with it."; \
	else ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -q $(COMPUTING); fi
	ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default $(PYTEST) -q $(COMPUTING)

test-shuffled: setup  ## all tests but the slow ones in random order, with one worker and with two
	@$(MAKE) --no-print-directory WORKERS=1 shuffled
	@$(MAKE) --no-print-directory WORKERS=2 shuffled

shuffled:
	@$(PYTEST) --random-order

lint: setup  ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

slow: setup  ## the slow tests: overfitting, training runs
	@$(RUN) -m pytest -m "slow and not torture"

torture: setup  ## half an hour: kills, full disks, damage by the thousand, threads; docs/reliability.md is its table
	TORTURE_EXAMPLES=2000 OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not gpu" $(TORTURE)

cuda-check: setup  ## compile the CUDA sources; needs nvcc, no GPU
	@$(RUN) tools/check_cuda_build.py

gpu-bundle: setup  ## pack what a bare GPU machine lacks into dist/gpu-bundle (ARGS="--python 3.13")
	@$(RUN) tools/make_gpu_bundle.py $(ARGS)

gpu-check: setup  ## judge everything on the GPU that is here, and write docs/gpu.md (ARGS="--minutes 20")
	@$(RUN) tools/gpu_check.py --out output/gpu $(ARGS); code=$$?; \
		$(RUN) tools/gpu_check.py --report output/gpu && exit $$code

slurm-check: setup  ## train under a real Slurm on this machine; needs root, slurmctld, slurmd and munge
	@$(RUN) tools/check_slurm.py

wheel: setup  ## build dist/mask2former-*.whl, for every Python and torch that is supported
	@$(RUN) tools/make_wheel.py

wheel-check: wheel  ## install that wheel without a compiler in a fresh environment and try it
	@$(RUN) tools/check_wheel.py dist/*.whl

site: .venv-docs/installed  ## build the documentation's site into site/, strictly: a wrong link or name ends it
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "Documentation: site/index.html"

.venv-docs/installed: requirements/docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	if [ -x .venv/bin/uv ]; then .venv/bin/uv pip install --quiet --python .venv-docs/bin/python -r requirements/docs.txt; \
		else .venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt; fi
	@touch $@

lock: setup  ## pin the newest versions that requirements/lock.in allows
	$(COMPILE) requirements/lock.in -o requirements/lock.txt --upgrade
	$(COMPILE) -c requirements/lock.txt requirements/run.in -o requirements/run.txt
	$(COMPILE) requirements/extras.in -o requirements/extras.txt --upgrade
	$(COMPILE) requirements/docs.in -o requirements/docs.txt --upgrade

audit: setup  ## compare requirements/lock.txt with the public lists of faults in packages; needs a network
	@$(RUN) tools/audit.py

clean:  ## remove .venv and everything that was built
	rm -rf .venv .venv-docs site build dist *.egg-info mask2former/ops/*.so
