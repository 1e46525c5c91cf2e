#!/bin/bash
# sbatch examples/slurm_job.sh
# Two nodes with a GPU each, one worker a node. Omniglot's meta-batch of 32 tasks is divided by
# 2, 4, 8, 16 and 32 workers. Submitted again, or requeued, the job goes on where it was.
#SBATCH --job-name=maml
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
# Before the time is over each worker gets SIGTERM, and the run is saved.
#SBATCH --signal=TERM@120
#SBATCH --output=maml-%j.txt

set -u
cd "$SLURM_SUBMIT_DIR"
# One Python for all nodes: PYTHON=/shared/venv/bin/python sbatch examples/slurm_job.sh
# Workers end together by themselves; who is killed for the exit code of another has none. From
# Slurm 22.05 on srun gives each of them one core, whatever sbatch has asked for, unless told.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" "${PYTHON:-python}" main.py \
  --flagfile=flags/omniglot_5way_1shot.flags \
  --distribution_strategy=multi_worker_mirrored --num_gpus=-1 "$@"
code=$?
# 75: a worker was lost, or did not come; 137: it was killed, of which srun tells rather than of
# the 75 of the others. The same job goes on from the last checkpoint, up to 100 times.
if [ "$code" -eq 75 ] || [ "$code" -eq 137 ]; then
  [ "${SLURM_RESTART_COUNT:-0}" -ge 100 ] || scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
