"""Training over accelerate; inference never imports this package."""
