"""Prepare training data for the stylizer, train it, and export its weights.

python scripts/train_stylizer.py prepare --data ../shared/data --output runs/prepared
python scripts/train_stylizer.py train --data ../shared/data --prepared runs/prepared \
    --vgg ../shared/data/nets/vgg19_relu3_1.safetensors --output runs/stylizer
"""

from clipmamba.train.stylizer.commands import main

if __name__ == "__main__":
    main()
