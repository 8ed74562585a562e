"""What every start needs from a model: its file, manifest, labels and contract.

A *prepared model* takes ``frames`` (uint8 [batch, H, W, 3], BGR) and returns ``detections``
(float32 [batch, K, 6]) and, if the network predicts them, ``keypoints`` (float32
[batch, K, J, 3]). Pre- and post-processing are part of the graph.
"""
