#!/bin/bash
# bash run.sh PYTHON
cd "$(dirname "$0")"; H=$PWD; T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; export PYTHONDONTWRITEBYTECODE=1
"$1" -m mfjax.run +exp=gradients job.gradients=[] hydra.run.dir=$T/o \
  job.candidate.gradient=$H/g.py:cand job.candidate.loss=$H/g.py:loss >$T/out 2>&1
rc=$?; tail -12 $T/out; echo "rc=$rc"
! grep -q Traceback $T/out && grep -q "expected the pair of gradients" $T/out && [ $rc = 1 ]
