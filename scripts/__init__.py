"""Scripts run by hand, which generate pages, test records and packages."""
