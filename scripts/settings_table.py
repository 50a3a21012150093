"""`python -m scripts.settings_table`: the README's table of settings, made of the settings themselves."""

from __future__ import annotations

from app.settings import Settings, variable_names


def table() -> str:
    """A Markdown table: each variable, its default, what it does."""
    rows = ["| Variable | Default | What it does |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        first, *others = variable_names(name)
        default = (
            ""
            if field.default in (None, "")
            else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        )
        also = f" Also: {', '.join(f'`{other}`' for other in others)}." if others else ""
        rows.append(f"| `{first}` | {default} | {field.description}{also} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
