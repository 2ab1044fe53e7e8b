"""The scan's backends; `dispatch` chooses among them."""
