#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# with_frameworks.sh [BUILD_DIR [pytest arguments]]: the tests that need torch, JAX, flax or Keras, after cmake --workflow
# --preset python. Makes a virtual environment beside the private dependencies once; PyPI's torch takes about 5 GB there.
# GRU_FRAMEWORKS_ENVIRONMENT names another environment that has pytest and some of them; tests of what it lacks are skipped
# and say so. Ends with status 77 if PyPI can't be reached.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/openmp}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- -q -rs
launcher=$build/python/with_module
[ -x "$launcher" ] || { echo "no $launcher: run cmake --workflow --preset python first" >&2; exit 1; }
environment=${GRU_FRAMEWORKS_ENVIRONMENT:-$root/.deps/python-frameworks}
if [ ! -e "$environment/complete" ] && [ -z "${GRU_FRAMEWORKS_ENVIRONMENT:-}" ]; then
  "$("$launcher" --print-python)" -m venv "$environment"
  # A small package first: where there is no network, this ends soon.
  pip() { "$environment/bin/python3" -m pip install --quiet --no-compile --disable-pip-version-check --retries 2 --timeout 20 "$@"; }
  pip pytest && pip torch expecttest numpy jax flax keras || { echo "pip could not get torch and JAX" >&2; exit 77; }
  touch "$environment/complete"
fi
# aot_eager stands for the compilers' back ends here: inductor would start compilers that know no private runtime.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=passive TORCHINDUCTOR_COMPILE_THREADS=1
# Each framework in a process of its own, as a user has it; Keras' backend is chosen once in a process.
status=0
for tests in torch keras jax; do
  echo "-- python/tests/$tests"
  "$launcher" "$environment/bin/python3" -m pytest -p no:cacheprovider "$@" "$root/python/tests/$tests" ||
    [ $? = 5 ] || status=1  # 5: all of them were skipped
done
exit $status
