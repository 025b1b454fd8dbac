"""A local server that speaks OpenAI's chat completions, for the real SDK to talk to."""
