"""The same methods, exactly as another source writes them."""
