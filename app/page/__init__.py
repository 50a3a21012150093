"""The page: everything that knows Chainlit."""
