"""What a visitor can set for a chat: the values, their limits, and the widgets that show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from chainlit.input_widget import InputWidget, Select, Slider, Switch, TextInput

from app.engines.base import GenerationOptions, ModelInfo
from app.errors import Language
from app.page.texts import text
from app.prompting import ReplyOptions
from app.turn import readable

AUTOMATIC: Final = "auto"
SYSTEM_PROMPT_LIMIT: Final = 8000

# Lowest, highest and step of each number.
_RANGES: Final = {"temperature": (0.0, 1.0, 0.05), "max_tokens": (16, 4096, 16), "top_p": (0.05, 1.0, 0.05)}
_ENGINE_LABELS: Final = {"ollama": "Ollama", "vllm": "vLLM", "transformers": "transformers"}


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a visitor has set. `model` is a model's id, or AUTOMATIC."""

    model: str = AUTOMATIC
    temperature: float = 0.2
    max_tokens: int = 1024
    top_p: float = 0.9
    system_prompt: str = ""
    think: bool = False

    def options(self, default_model: str) -> ReplyOptions:
        """For a turn; `default_model` answers for AUTOMATIC."""
        return ReplyOptions(
            model=default_model if self.model == AUTOMATIC else self.model,
            system=self.system_prompt.strip(),
            generation=GenerationOptions(self.temperature, self.top_p, self.max_tokens, self.think),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `changed` takes it back."""
        return asdict(self)

    def changed(self, values: Mapping[str, object], language: Language) -> tuple[Preferences, list[str]]:
        """With new values, which come from a browser and may be anything.

        Returns:
            The preferences with every value that is allowed, and a sentence for each that is not.
        """
        result, problems = self, []
        for field in fields(self):
            if field.name not in values:
                continue
            value: Any = values[field.name]
            problem = None
            if field.name in _RANGES:
                value, problem = self._number(field.name, value, language)
            elif field.name == "system_prompt":
                value = readable(value) if isinstance(value, str) else ""
                if len(value) > SYSTEM_PROMPT_LIMIT:
                    problem = text(language, "setting_too_long", size=len(value), limit=SYSTEM_PROMPT_LIMIT)
            elif field.name == "think":
                value = value is True
            else:
                value = value if isinstance(value, str) and value else AUTOMATIC
            if problem:
                problems.append(problem)
            else:
                result = replace(result, **{field.name: value})
        return result, problems

    @classmethod
    def allowed(cls, values: Mapping[str, object]) -> dict[str, Any]:
        """Those of some values, which may come from anywhere, that a visitor could have set."""
        found = {}
        for name in values.keys() & {field.name for field in fields(cls)}:
            changed, problems = cls().changed({name: values[name]}, "en")
            if not problems:
                found[name] = changed.as_dict()[name]
        return found

    def _number(self, name: str, value: object, language: Language) -> tuple[float, str | None]:
        low, high, _ = _RANGES[name]
        kept = getattr(self, name)
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            label = text(language, name)
            return kept, text(language, "setting_range", name=label, value=value, low=low, high=high, kept=kept)
        return (int(number) if isinstance(low, int) else number), None


def widgets(
    preferences: Preferences, models: Sequence[ModelInfo], default: ModelInfo | None, language: Language
) -> list[InputWidget]:
    """The chat settings as Chainlit shows them."""
    automatic = text(language, "automatic")
    items = {f"{automatic} ({default.name})" if default else automatic: AUTOMATIC}
    items |= {model_label(model): model.id for model in models}
    if preferences.model not in items.values():
        items[text(language, "model_gone", model=preferences.model)] = preferences.model
    settings: list[InputWidget] = [
        Select(
            id="model",
            label=text(language, "model"),
            items=items,
            initial_value=preferences.model,
            description=text(language, "model_help"),
        )
    ]
    for name, (low, high, step) in _RANGES.items():
        settings.append(
            Slider(
                id=name,
                label=text(language, name),
                initial=getattr(preferences, name),
                min=low,
                max=high,
                step=step,
                description=text(language, f"{name}_help"),
            )
        )
    settings.append(
        TextInput(
            id="system_prompt",
            label=text(language, "system_prompt"),
            initial=preferences.system_prompt,
            multiline=True,
            description=text(language, "system_prompt_help"),
        )
    )
    if any(model.can_think for model in models):
        settings.append(
            Switch(
                id="think",
                label=text(language, "think"),
                initial=preferences.think,
                description=text(language, "think_help"),
            )
        )
    return settings


def model_label(model: ModelInfo) -> str:
    """`gemma2:2b · Ollama · 1.6 GB`."""
    size = model.size or 0
    shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    parts = [model.name, _ENGINE_LABELS.get(model.engine, model.engine), shown if size else ""]
    return " · ".join(filter(None, parts))
