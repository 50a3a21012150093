"""The database. Knows neither Chainlit nor FastAPI."""
