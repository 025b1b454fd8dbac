"""Small real code tickets: each a repository with a hidden test that fails until the ticket is done."""
