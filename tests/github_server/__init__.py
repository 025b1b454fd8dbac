"""A stand-in for GitHub: real HTTP and real git on loopback, checked against GitHub's own OpenAPI description.

`server.GitHubServer` starts it; `state.State` holds what it knows and is what a test arranges and looks at. A file for
each area of the API (`issues`, `git`, `pulls`, `comments` …) registers its operations with `routes.operation`.
"""
