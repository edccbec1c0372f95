#!/bin/bash
# Workers of a sweep as a Slurm job array: one worker a task.
#     sbatch --array=0-7 cluster/slurm.sh an4
# The process of the sweep runs elsewhere (`cspbench sweep FILE --storage ...`), for instance on the login node.
#
# Set before: OPTUNA_STORAGE=postgresql://USER@HOST/DATABASE, MLFLOW_TRACKING_URI=http://HOST:PORT. Passwords come from
# ~/.pgpass and from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; Slurm hands the environment on.
#SBATCH --job-name=cspbench
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --output=cspbench-%A-%a.log
# For a GPU each: #SBATCH --gpus-per-task=1
# Two minutes before the time is over the worker is told to stop: it saves a checkpoint, gives its trial back and ends.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

study=${1:?usage: sbatch --array=0-7 slurm.sh STUDY}
root=${CSPBENCH_ROOT:-$HOME/cspbench-runs} # on a disk that all nodes share, interrupted trials resume from checkpoints

# `srun`, so that the signal reaches the worker itself and not this script.
code=0
srun cspbench worker "$study" --root "$root" || code=$?
if [ "$code" = 130 ]; then # stopped, and not done: queue up again
  scontrol requeue "${SLURM_JOB_ID:?}"
fi
exit "$code"
