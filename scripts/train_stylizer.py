"""Makes training pairs, trains the stylizer on them, exports its weights.

python scripts/train_stylizer.py pairs --data ../shared/data --output runs/pairs
python scripts/train_stylizer.py train --pairs runs/pairs --output runs/stylizer
"""

from clipmamba.train.stylizer.commands import main

if __name__ == "__main__":
    main()
