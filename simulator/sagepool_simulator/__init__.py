"""An engine with the HTTP surface of vLLM that needs neither GPU nor weights."""
