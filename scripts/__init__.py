"""What is run by hand: it makes pages, records and packages."""
