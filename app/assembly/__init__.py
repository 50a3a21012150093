"""The parts, put together from the settings. `app.main` puts these together in turn."""
