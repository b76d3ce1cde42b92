"""Count what a model costs: parameters, operations and activations, part by part."""
