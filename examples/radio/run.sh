#!/bin/sh
# Images NGC 5921 where its visibilities are at hand, and a simulated galaxy elsewhere; see README.md.
set -eu
output=${1:?usage: examples/radio/run.sh OUTPUT}
root=$(cd "$(dirname "$0")/../.." && pwd)
environment=${CUBE_ENV:-$root/.venvs/cube}
mkdir -p "$output"
real=${ARMILLARY_TEST_DATA:-/nowhere}/radio/ngc5921_vla_hi.ps.zarr
if [ -d "$real" ]; then
  "$environment/bin/armillary-cube" import "$real" "$output/observation.ps.zarr"
  free="4-6 50-59"
else
  "$environment/bin/armillary-cube" simulate "$output/observation.ps.zarr"
  free="0-4 43-47"
fi
set --
for range in $free; do set -- "$@" --continuum "$range"; done
"$environment/bin/armillary-cube" image "$output/observation.ps.zarr" "$output/whole" --executor threads:2 \
  --cell 15 --size 256 256 --weighting briggs --clean hogbom --sigma 3 "$@"
exec "$environment/bin/python" "$root/examples/radio/shares.py" "$output"
