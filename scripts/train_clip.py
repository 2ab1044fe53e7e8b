"""Train the default dual encoder `mini` and the text-to-style prior.

python scripts/train_clip.py text --data ../shared/data --output runs/mini-text
"""

from clipmamba.train.mini.commands import main

if __name__ == "__main__":
    main()
