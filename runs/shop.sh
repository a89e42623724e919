#!/bin/sh
# Teach nano to operate the demo shop as it is told in words, as an adapter in OUT/adapter: copying a line of an invented
# screen first, then single moves on the shop's pages, then whole tasks. Needs Chromium. Killed, the same command goes on.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
OUT="${OUT:-runs/out/shop}"
[ -f "$OUT/tasks.jsonl" ] || .venv/bin/python recipes/shop.py "$OUT"
export OMP_NUM_THREADS=1

# learn STAGE TOKENS OPTIONS...: what is learned is in STAGE/adapter.
learn() {
  stage="$1" tokens="$2"
  shift 2
  [ -d "$stage/adapter" ] || .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" --no-python .venv/bin/clearsight train \
    --model "${MODEL:-nano}" --lora 64 --max-tokens "$tokens" --pack-tokens "$tokens" --warmup 10 --epochs 1 --out "$stage" "$@"
}

learn "$OUT/lines" 1536 --data "$OUT/lines.jsonl" --lr 2e-3
learn "$OUT/moves" 2048 --data "$OUT/moves.jsonl" --lr 1.5e-3 --adapter "$OUT/lines/adapter"
learn "$OUT" 6144 --data "$OUT/tasks.jsonl" --lr 1e-3 --adapter "$OUT/moves/adapter"
