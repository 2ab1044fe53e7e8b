#!/bin/bash
# Prepare the data and train the next stylizer for as long as it runs; a further call resumes it.
#
#     scripts/long_run.sh ../shared/data runs/venv/bin/python
#
# The second argument is a Python with an installed copy of clipmamba[train,regions], so that work on
# the source does not affect the run; a third may name another stylizer to start from. It stays in the
# foreground; add nohup and & to leave it alone. Paths are relative to the repository.
# Recipe and results: docs/lab_notebook.md.
set -eu
cd "$(dirname "$0")/.."
data=$1 python=$2 init=${3:-src/clipmamba/weights/stylizer}

. scripts/recipe.sh

if [ ! -d runs/prepared ]; then
    rm -rf runs/preparing
    "$python" scripts/train_stylizer.py prepare --data "$data" --output runs/preparing \
        --chosen scripts/chosen_styles.csv --prior src/clipmamba/weights/prior --faces \
        --technique crayon "coloured pencil" --technique "old photograph" sepia
    mv runs/preparing runs/prepared
fi

export OMP_NUM_THREADS=1
exec chrt -i 0 "$python" -m torch.distributed.run --nproc_per_node 2 --master_port 29556 \
    -m clipmamba.train --data "$data" --vgg "$data/nets/vgg19_relu3_1.safetensors" \
    --prepared runs/prepared --output runs/long --init "$init" \
    --double-every 0 --batch 8 --exact 1 --steps 60000 --learning-rate 5e-4 --decay 3600 \
    "${recipe[@]}"
