#!/usr/bin/env bash
# Runs the comparison on a GPU and puts its results in the place of those that are here. Start it again after a time
# limit, a signal or a crash: finished trials are kept, others go on from their checkpoints.
#
#   analysis/compare/run_gpu.sh
#   TIME_LIMIT=600 analysis/compare/run_gpu.sh --budget 4 --only csp,magnitude_refit
#   analysis/compare/run_gpu.sh --set corpora.0.corpus.path=/data/fsdd --set corpora.1.corpus.path=/data/an4
#
# Arguments go to `cspbench compare`; paths in the file are relative to the repository. Settings, from the environment:
#   DEVICE          cuda, cuda:N or cpu                                  [cuda]
#   COMPARISON      the comparison file                                  [sweeps/compare.yaml]
#   ROOT            results folder: keep it between runs                 [runs]
#   RESULTS         receives the tables and figures once nothing is left [analysis/compare]
#   TIME_LIMIT      seconds after which it stops at a checkpoint, exit status 124; 0 for none [0]
#   TRIALS_PER_GPU  trials that share a GPU: a number, or auto           [auto]
#   WORKERS         trials at a time with DEVICE=cpu                     [1]
#   VENV            environment; made if it has no cspbench              [.venv-gpu]
#   PYTHON          makes it; a torch for CUDA that it has is used       [python3.12]
#   TORCH           what pip installs if it has none                     [torch>=2.11]
#   WHEELS          folder of wheels, for a machine without a network    []
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DEVICE=${DEVICE:-cuda} COMPARISON=${COMPARISON:-sweeps/compare.yaml} ROOT=${ROOT:-runs} VENV=${VENV:-.venv-gpu}
RESULTS=${RESULTS:-analysis/compare} TIME_LIMIT=${TIME_LIMIT:-0}

install() {
    local pip=("$VENV/bin/python" -m pip install --quiet)
    [ -z "${WHEELS:-}" ] || pip+=(--no-index --find-links "$WHEELS")
    "${PYTHON:-python3.12}" -m venv --system-site-packages "$VENV"
    "$VENV/bin/python" -c 'import torch' 2>/dev/null || "${pip[@]}" "${TORCH:-torch>=2.11}"
    "${pip[@]}" -e '.[sweep]'
}

[ -x "$VENV/bin/cspbench" ] || install

compare=(compare "$COMPARISON" --root "$ROOT" --device "$DEVICE" --workers "${WORKERS:-1}")
[ "$DEVICE" = cpu ] || compare+=(--trials-per-gpu "${TRIALS_PER_GPU:-auto}")
written=$(mktemp)
trap 'rm -f "$written"' EXIT
status=0
timeout --signal=TERM --kill-after=120 "$TIME_LIMIT" \
    "$VENV/bin/cspbench" "${compare[@]}" --json "$@" > "$written" || status=$?
if [ "$status" -eq 124 ]; then
    echo "time is up: start it again to go on" >&2
fi
[ "$status" -eq 0 ] || exit "$status"
"$VENV/bin/python" analysis/publish_comparison.py "$written" "$ROOT" "$RESULTS"
