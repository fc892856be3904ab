"""What a search found, as values (`records`), as a table and picture (`terminal`), and while it runs (`live`)."""
