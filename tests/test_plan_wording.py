"""TensorRT's own words, as its parsers and builders gave them, made plain."""

import pytest

from centernetd.plan import wording

SAID = {
    "Assertion failed: creator: Plugin not found, are the plugin name, version, and namespace "
    "correct?": "it has no such operator",
    'creator && "Plugin not found, are the plugin name, version, and namespace correct?"': (
        "it has no such operator"
    ),
    "false": "it has no such operator",
    '(mode == "avg" || mode == "max") && "Mode must be avg or max!"': "Mode must be avg or max",
    '(mode == "a" || mode == "b") && "Takes only a and " "b modes!"': "Takes only a and b modes",
    "Invalid Node - x\nINetworkDefinition::addConvolutionNd: Error Code 3: API Usage Error "
    "(Invalid number of output channels: -1. In addConvolutionNd at /_src/network.cpp:1328)\n"
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (of no matter)": (
        "Invalid number of output channels: -1"
    ),
    "[x.cpp::f::2] Error Code 4: API Usage Error (K exceeds the maximum value allowed "
    "(3840). In processCheck at /_src/a.cpp:1066 In analyzeShapes at /_src/a.cpp:2825)": (
        "K exceeds the maximum value allowed (3840)"
    ),
    "": "it doesn't say why",
}


@pytest.mark.parametrize("said", SAID)
def test_the_source_code_is_taken_out(said: str) -> None:
    assert wording.of_node(said) == SAID[said]
