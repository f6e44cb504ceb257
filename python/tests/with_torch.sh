#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# with_torch.sh [BUILD_DIR [pytest arguments]]: the tests that need torch, after cmake --workflow --preset python. Makes a virtual
# environment beside the private dependencies once; PyPI's torch takes about 5 GB there. GRU_TORCH_ENVIRONMENT names
# another environment that has torch, expecttest and pytest. Ends with status 77 if torch can't be had.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/openmp}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- -q
launcher=$build/python/with_module
[ -x "$launcher" ] || { echo "no $launcher: run cmake --workflow --preset python first" >&2; exit 1; }
environment=${GRU_TORCH_ENVIRONMENT:-$root/.deps/python-torch}
if [ ! -e "$environment/complete" ] && [ -z "${GRU_TORCH_ENVIRONMENT:-}" ]; then
  "$("$launcher" --print-python)" -m venv "$environment"
  "$environment/bin/pip" install --quiet torch expecttest pytest numpy || { echo "pip could not get torch" >&2; exit 77; }
  touch "$environment/complete"
fi
# aot_eager stands for the compilers' back ends here: inductor would start compilers that know no private runtime.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=passive TORCHINDUCTOR_COMPILE_THREADS=1
exec "$launcher" "$environment/bin/python3" -m pytest -p no:cacheprovider "$@" "$root/python/tests/torch"
