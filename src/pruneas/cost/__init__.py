"""What widths cost, and widths inside a budget."""
