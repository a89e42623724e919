#!/bin/sh
# Train nano from nothing, with one process of one thread for each of PROCESSES cores. Killed, the same command goes on.
# Its app screens are drawn by Chromium first, which must be there. OUT receives checkpoints, metrics, a plot of the
# losses and, at the end, the weights in OUT/model. With --compile, which needs a C++ compiler, it is faster; with
# --rehearse it takes a small step of every stage in a few minutes, to see before the long run that it goes through.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
.venv/bin/python -m clearsight.train.worlds --screens 2000
export OMP_NUM_THREADS=1
exec .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" recipes/nano.py --out "${OUT:-runs/out/nano}" "$@"
