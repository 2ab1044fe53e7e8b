"""The stylizer: its pairs, what they ask for, losses, commands."""
