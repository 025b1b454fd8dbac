"""One file for each way to reach a language model. Only the gateway makes them: they hold the key."""
