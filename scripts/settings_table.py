"""`python -m scripts.settings_table`: the README's tables of settings, made of the settings themselves."""

from __future__ import annotations

from typing import Final

from app.settings import Settings, variable_names

# What other services for Ollama call as we do.
SAME: Final = ("HOST", "PORT", "RELOAD", "LOG_LEVEL", "DATABASE_URL", "SECRET_KEY", "VLLM_URL", "OLLAMA_HOST")


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


def other_names(heads: tuple[str, str] = ("Other name", "Here"), same: str = "the same") -> str:
    """A Markdown table: under which names of other services a variable is taken as well.

    Args:
        heads: of the two columns.
        same: what stands where there is no difference.
    """
    rows = [f"| {' | '.join(heads)} |", "| --- | --- |"]
    for name in Settings.model_fields:
        first, *others = variable_names(name)
        rows += [f"| `{other}` | `{first}` |" for other in others]
    rows.append(f"| {', '.join(f'`{name}`' for name in SAME)} | {same} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(f"{table()}\n\n{other_names()}")
