"""What every start needs of a model: its file, manifest, labels and contract.

A *prepared model* takes ``frames`` (uint8 [batch, H, W, 3], BGR) and gives ``detections``
(float32 [batch, K, 6]) and, where the network has them, ``keypoints`` (float32
[batch, K, J, 3]): pre- and post-processing are part of the graph.
"""
