"""Training with accelerate; inference never imports this package."""
