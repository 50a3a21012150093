"""What the browser gets from us beside Chainlit's own script."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chainlit
import pytest
from chainlit.config import config
from chainlit.markdown import get_markdown_str
from chainlit.server import get_html_template

from app.page.html import local_html
from app.settings import ROOT

PUBLIC = ROOT / "public"
TRANSLATIONS = ROOT / ".chainlit" / "translations"
VARIABLES = json.loads((PUBLIC / "theme.json").read_text())["variables"]
CONFIG = tomllib.loads((ROOT / ".chainlit" / "config.toml").read_text())

# What is written on what.
TEXT_PAIRS = [
    ("--foreground", "--background"),
    ("--muted-foreground", "--background"),
    ("--card-foreground", "--card"),
    ("--muted-foreground", "--card"),
    ("--popover-foreground", "--popover"),
    ("--primary-foreground", "--primary"),
    ("--secondary-foreground", "--secondary"),
    ("--foreground", "--muted"),
    ("--muted-foreground", "--muted"),
    ("--accent-foreground", "--accent"),
    ("--muted-foreground", "--accent"),
    ("--destructive-foreground", "--destructive"),
    ("--notice-foreground", "--notice"),
    ("--sidebar-foreground", "--sidebar-background"),
    ("--sidebar-accent-foreground", "--sidebar-accent"),
    ("--sidebar-primary-foreground", "--sidebar-primary"),
]
# Words that are the same in Russian, or no words at all.
SAME_IN_RUSSIAN = {"auth.login.form.email.placeholder", "navigation.user.menu.settingsKey"}


def luminance(hsl: str) -> float:
    """Relative luminance of `"H S% L%"`, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    hue, saturation, lightness = (float(part.rstrip("%")) for part in hsl.split())
    s, light = saturation / 100, lightness / 100

    def channel(n: int) -> float:
        k = (n + hue / 30) % 12
        value = light - s * min(light, 1 - light) * max(-1, min(k - 3, 9 - k, 1))
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return 0.2126 * channel(0) + 0.7152 * channel(8) + 0.0722 * channel(4)


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def translation(language: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((TRANSLATIONS / f"{language}.json").read_text())
    return loaded


def foreign_addresses(text: str) -> list[str]:
    """With a scheme, or without one at the beginning of a quoted value. Names of XML vocabularies are not fetched."""
    found = re.findall(r"""https?://[^\s"'<>)]+|(?<=["'(])//[^\s"'<>)]+""", text)
    return [url for url in found if not url.startswith("http://www.w3.org/")]


def served_page() -> str:
    return local_html(get_html_template(""))


def test_the_served_page_names_no_other_server() -> None:
    assert foreign_addresses(get_html_template(""))  # Chainlit's own does, or this test would prove nothing
    assert foreign_addresses(served_page()) == []


def test_the_served_page_keeps_what_it_needs() -> None:
    page = served_page()
    for part in ('<div id="root">', "/public/custom.css", "/public/custom.js", "window.theme", 'src="/assets/index-'):
        assert part in page


def test_our_script_stands_before_chainlits() -> None:
    page = served_page()
    assert re.search(r'<script src="/public/custom.js" type="module">', page)
    assert page.index("/public/custom.js") < page.index('src="/assets/index-')


def test_the_policy_allows_this_server_and_the_inline_scripts_of_the_page_only() -> None:
    page = local_html("<head><script>one</script></head>")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    rules = {name: sources for name, *sources in (rule.split() for rule in policy[1].split("; "))}
    # printf one | openssl dgst -sha256 -binary | base64
    assert "'sha256-dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0='" in rules["script-src"]
    assert "'unsafe-inline'" not in rules["script-src"]
    assert rules["default-src"] == ["'self'"]
    assert rules["img-src"] == ["'self'", "data:", "blob:"]
    assert not any("http" in source or source == "*" for sources in rules.values() for source in sources)


def test_a_page_without_a_head_is_an_error() -> None:
    with pytest.raises(ValueError, match="head"):
        local_html("<html></html>")


# Scripts of others name their makers; that they fetch nothing is tested in tests/page/test_dashboard.py.
@pytest.mark.parametrize(
    "path",
    sorted(path for path in PUBLIC.rglob("*") if path.is_file() and path.parent != PUBLIC / "vendor"),
    ids=lambda path: path.name,
)
def test_no_public_file_names_another_server(path: Path) -> None:
    text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
    assert [url for url in foreign_addresses(text) if url.startswith(("http", "//"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_PAIRS)
def test_text_can_be_read_in_both_themes(scheme: str, text: str, ground: str) -> None:
    colors = VARIABLES[scheme]
    assert contrast(colors[text], colors[ground]) >= 4.5  # WCAG 2.1 AA


def test_both_themes_set_the_same_variables() -> None:
    assert VARIABLES["light"].keys() == VARIABLES["dark"].keys()


def test_contrast_is_as_the_standard_defines_it() -> None:
    assert contrast("0 0% 0%", "0 0% 100%") == pytest.approx(21)
    assert contrast("0 0% 46.6%", "0 0% 100%") == pytest.approx(4.48, abs=0.02)  # #777


@pytest.mark.parametrize("language", ["en-US", "ru-RU"])
def test_a_translation_has_every_key_of_chainlit(language: str) -> None:
    own = json.loads((Path(chainlit.__file__).parent / "translations" / "en-US.json").read_text())
    keys = dict(leaves(own)).keys()
    texts = dict(leaves(translation(language)))
    # The page looks for what went wrong by the words of the HTTP status.
    statuses = {f"auth.login.errors.{words}" for words in ("Unauthorized", "Too Many Requests", "Service Unavailable")}
    assert texts.keys() == keys | statuses
    assert all(text.strip() for text in texts.values())


def test_russian_is_russian_and_fills_in_the_same_places() -> None:
    english, russian = dict(leaves(translation("en-US"))), dict(leaves(translation("ru-RU")))
    for key, text in russian.items():
        assert re.findall(r"{{\w+}}", text) == re.findall(r"{{\w+}}", english[key])
        assert key in SAME_IN_RUSSIAN or re.search("[а-яё]", text, re.IGNORECASE), key


@pytest.mark.parametrize("language", ["ru", "ru-RU"])
def test_a_russian_browser_gets_the_russian_page_about_the_chat(language: str) -> None:
    assert "на этом сервере" in (get_markdown_str(str(ROOT), language) or "")


@pytest.mark.parametrize("language", ["en-US", "en", "de"])
def test_any_other_browser_gets_the_english_one(language: str) -> None:
    assert "on this server" in (get_markdown_str(str(ROOT), language) or "")


def test_what_is_dangerous_or_speaks_to_others_is_off() -> None:
    features = CONFIG["features"]
    assert features["unsafe_allow_html"] is False
    assert features["mcp"]["enabled"] is False
    assert features["mcp"]["user_servers"]["enabled"] is False
    assert features["spontaneous_file_upload"]["enabled"] is False
    assert features["audio"]["enabled"] is False
    assert features["allow_thread_sharing"] is False
    assert CONFIG["project"]["allow_origins"] == []


def test_chainlit_takes_the_settings_as_they_are() -> None:
    assert config.ui.name == CONFIG["UI"]["name"]
    assert config.ui.cot == "full"
    assert config.features.edit_message is True


def test_the_status_element_imports_only_what_chainlit_offers() -> None:
    source = (PUBLIC / "elements" / "ReplyStatus.jsx").read_text()
    offered = {"react", "recoil", "lucide-react", "@chainlit/react-client"}
    assert set(re.findall(r"from '([^']+)'", source)) <= offered
