"""The database of the settings, for the server and for the commands beside it."""

from __future__ import annotations

from app.settings import Settings
from app.storage.database import FILE, Database


def database_of(settings: Settings) -> Database:
    """The database that DATABASE_URL names, else SQLite in DATA_DIR. It is not opened."""
    url = settings.database_url
    return Database(url.get_secret_value()) if url else Database.in_folder(settings.data_dir)


def is_missing(settings: Settings) -> bool:
    """Whether it is a file that nobody has made yet."""
    return settings.database_url is None and not (settings.data_dir / FILE).is_file()
