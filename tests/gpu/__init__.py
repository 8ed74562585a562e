"""Tests on a real GPU: ``pytest -m gpu``. They skip only where none is found."""
