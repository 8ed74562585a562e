"""From an export to a prepared model: layouts, decode, precision, and the export from PyTorch."""
