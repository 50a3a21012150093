"""`python -m app.doctor`: is this server all right, and if not, what to do."""
