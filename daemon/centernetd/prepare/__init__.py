"""From an export to a prepared model: layouts, decode, precision, and export from PyTorch."""
