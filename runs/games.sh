#!/bin/sh
# Teach nano to play games, as an adapter in OUT/adapter: an expert's games become data, first in words, then in pictures
# as well. Killed, the same command goes on.
. "$(dirname "$0")/adapter.sh"
OUT="${OUT:-runs/out/games}"
[ -f "$OUT/games.jsonl" ] || .venv/bin/python recipes/games.py "$OUT"

LORA="--lora 16 --lora-vision --lr 2e-3 --warmup 5"
learn "$OUT/rules" 4096 $LORA --data "$OUT/rules.jsonl" --epochs 2
learn "$OUT" 4096 $LORA --data "$OUT/games.jsonl" --data "$OUT/rules.jsonl" --adapter "$OUT/rules/adapter"
