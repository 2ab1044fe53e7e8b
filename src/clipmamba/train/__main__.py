"""`accelerate launch -m clipmamba.train …`: trains the stylizer, on one or several processes."""

from clipmamba.train.stylizer_commands import train_command

if __name__ == "__main__":
    train_command()
