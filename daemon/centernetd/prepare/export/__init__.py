"""From a PyTorch checkpoint to a prepared model.

The networks are reimplementations of those that CenterNet's authors and others published
checkpoints of. Only modules of this package import torch, and only once `export` is called.
"""
