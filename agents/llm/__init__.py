"""Language models: the port that planners use, its providers, prices, budgets, and the gateway that holds the key."""
