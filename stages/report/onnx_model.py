"""The network as an ONNX model: from pixel values to the probabilities and features of all tasks."""

import json
import logging
import warnings
from dataclasses import asdict

import torch
from torch import Tensor, nn

from stages.core.network import MultiTaskNetwork

INPUT = "images"


class _Exported(nn.Module):
    """Flat outputs, as ONNX has them."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features, scores = self.network.extract(images)
        return (*(torch.softmax(values, dim=1) for values in scores.values()), *features.values())


def name_outputs(tasks: list[str]) -> list[str]:
    """`probabilities_<task>` for every task, then `features_<task>`."""
    return [f"{kind}_{task}" for kind in ("probabilities", "features") for task in tasks]


def convert_network(network: MultiTaskNetwork):
    """An `onnx.ModelProto` whose batch size is free.

    Its input `images` is float32 (batch, C, H, W) with pixel values from 0 to 255; normalisation is
    part of the model. Outputs: see `name_outputs`. Its metadata `network` is the specification as JSON.
    """
    height, width, channels = network.specification.image_shape
    names = name_outputs(network.specification.tasks)
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, channels, height, width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Deprecations between torch and its own exporter.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Exported(network.eval()),
            (example,),
            input_names=[INPUT],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    # Where in whose files a node comes from says nothing to users.
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
        part.ClearField("metadata_props")
    entry = model.metadata_props.add()
    entry.key, entry.value = "network", json.dumps(asdict(network.specification))
    return model
