"""`torchrun -m clipmamba.train …`: train the stylizer in one or several processes."""

import logging

from clipmamba.train.stylizer.commands import train_command

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train_command()
