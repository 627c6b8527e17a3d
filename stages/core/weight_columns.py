"""The weights that people look at: columns of the table of weights, with the paper's symbols."""

WEIGHT_COLUMNS = {
    "confidence_weight": "confidence wᶜ",
    "density_weight": "density wᵈ",
    "distribution_weight": "distribution wᵍ",
    "selection_weight": "selection w",
}
