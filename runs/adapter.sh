# Read by the scripts that make nano's adapters: sets up, and has `learn STAGE TOKENS OPTIONS...`, which leaves an adapter
# in STAGE/adapter. Killed, the same call goes on where it was; an adapter that is there is left alone.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
export OMP_NUM_THREADS=1

learn() {
  stage="$1" tokens="$2"
  shift 2
  [ -d "$stage/adapter" ] || .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" --no-python .venv/bin/clearsight train \
    --model "${MODEL:-nano}" --max-tokens "$tokens" --pack-tokens "$tokens" --epochs 1 --out "$stage" "$@"
}
