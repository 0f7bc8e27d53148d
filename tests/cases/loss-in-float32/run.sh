#!/bin/bash
# bash run.sh PYTHON
cd "$(dirname "$0")"; H=$PWD; T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; export PYTHONDONTWRITEBYTECODE=1
"$1" -m mfjax.run +exp=gradients job.gradients=[] hydra.run.dir=$T/o \
  job.candidate.gradient=$H/g.py:right job.candidate.loss=$H/g.py:own >$T/out 2>&1
rc=$?; tail -12 $T/out; echo "rc=$rc"
grep -q "float32: noise of" $T/out && [ $rc = 0 ]
