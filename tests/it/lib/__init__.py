"""What the integration tests share: the running system (porch), clients (rest, events), sinks for messages, the contract (openapi)."""
