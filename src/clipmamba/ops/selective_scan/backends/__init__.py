"""The ways to run the scan; `dispatch` chooses between them."""
