#!/usr/bin/env bash
# The GPU suite and the GPU bench on a machine with an NVIDIA GPU: tests, figures, a timeline.
#
#   OUT=folder scripts/gpu_suite.sh [WHEELS]
#
# WHEELS is a folder of wheels (and ort-*.tar.xz archives of an unpacked onnxruntime-gpu) that
# the machine's Python lacks; they go into $SITE, not into its environment. With `--unpack-only` as
# second argument the script stops after that, for machines that need several transfers.
# .cache/models/centerface.onnx must exist if nothing can be downloaded.
set -uo pipefail
cd "$(dirname "$0")/.."
wheels=${1:-} out=${OUT:-out} site=${SITE:-/tmp/site} python=${PYTHON:-python3}
mkdir -p "$out" "$site"

if [ -n "$wheels" ]; then
    for archive in "$wheels"/ort-*.tar.xz; do
        [ -e "$archive" ] && { tar -xJf "$archive" -C "$site" || exit; }
    done
    # In one call: a second would remove the programs installed by the first.
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$site" "$wheels"/*.whl || exit
fi
[ "${2:-}" = --unpack-only ] && exit 0

# ONNX Runtime looks for CUDA's and cuDNN's libraries next to itself.
nvidia=$("$python" -c 'import nvidia; print(next(iter(nvidia.__path__)))' 2>/dev/null)
if [ -n "$nvidia" ] && [ ! -e "$site/nvidia" ]; then ln -s "$nvidia" "$site/nvidia"; fi

# This checkout is tested; its version is read from the distribution's metadata.
info=$site/centernetd-0.dist-info
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: centernetd\nVersion: 0\n' >"$info/METADATA"
export PYTHONPATH=$PWD/daemon:$PWD:$site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

{
    nvidia-smi
    "$python" - <<'PY'
import importlib.metadata as metadata
for name in ("torch", "cuda-bindings", "onnxruntime-gpu", "onnxruntime", "numpy", "onnx", "av"):
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        print(name, "missing")
PY
} 2>&1 | tee "$out/machine.txt"

timeout "${PYTEST_SECONDS:-300}" "$python" -m pytest -m gpu tests/gpu -v --durations=10 \
    -p no:cacheprovider 2>&1 | tee "$out/pytest.txt"
tests=$?

timeout "${BENCH_SECONDS:-180}" "$python" -m tests.gpu.bench "$out/bench.json" 2>&1 |
    tee "$out/bench.txt"
bench=$?
if [ -e "$out/bench.json" ]; then
    "$python" scripts/timeline.py "$out/bench.json" "$out/timeline.png"
fi

cat >"$out/config.yaml" <<YAML
version: 1
engine: {backend: onnxruntime-cuda}
batching: {max_size: 32}
streams:
  demo: {source: $PWD/assets/demo.mp4}
YAML
CACHE_DIRECTORY=$PWD/.cache timeout 90 "$python" -m centernetd bench --gpu -c "$out/config.yaml" 2>&1 |
    tee "$out/bench_onnxruntime.txt"

echo "pytest: $tests, bench: $bench"
exit $((tests || bench))
