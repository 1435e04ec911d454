"""`hpu_backend` of torch.compile; refuses what the vendor's backend does not take, and runs the rest as it is."""

import torch
import torch._dynamo

graphs: list[torch.fx.GraphModule] = []


def hpu_backend(graph: torch.fx.GraphModule, inputs, **options):
    assert not options, f"unknown options {sorted(options)}"
    dynamic = [each for each in inputs if isinstance(each, torch.SymInt)]
    assert not dynamic, "a dynamic shape is compiled again for each size"
    collectives = [node for node in graph.graph.nodes if "c10d" in str(node.target)]
    assert not collectives, "collectives are not allowed in graphs"
    graphs.append(graph)
    return graph.forward


torch._dynamo.register_backend(compiler_fn=hpu_backend, name="hpu_backend")
