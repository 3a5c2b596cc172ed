"""Who may use the router: API keys, their limits and what each of them used."""
