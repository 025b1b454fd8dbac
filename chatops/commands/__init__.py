"""The slash commands, one a file; `chatops.command.known` finds them."""
