"""Language models: tokens, the lightbulb Transformer, and one interface over every model that can write or score text."""
