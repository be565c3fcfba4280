"""The same methods in the form in which another source writes them."""
