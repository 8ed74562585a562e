"""From a PyTorch checkpoint to a prepared model.

The networks are those that CenterNet's authors and others published checkpoints of, defined anew.
Only the modules beneath this one import torch, and they only when `export` is called.
"""
