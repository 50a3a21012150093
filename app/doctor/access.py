"""Who comes in, whose word counts, and how much each may ask."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from limits import parse

from app.doctor.check import Finding, Patient
from app.settings import Settings
from app.windows import Windows, WindowsAway, WindowsUnusable

_FEW_BITS: Final = 8


async def access(patient: Patient) -> Sequence[Finding]:
    """Login, proxies, what is kept of whom, limits."""
    settings = patient.settings
    return [_login(settings), _proxies(patient), _history(settings), await _limits(settings)]


def _login(settings: Settings) -> Finding:
    if settings.login:
        return Finding("login", "ok", f"AUTH={settings.auth}")
    if _is_loopback(settings.host):
        return Finding("login", "ok", f"none; only this machine reaches {settings.host}")
    told = f"none, and it listens on {settings.host}: whoever reaches the port can chat"
    return Finding("login", "ok", told, "on the open internet: AUTH=password, or -p 127.0.0.1:8000:8000 and a proxy")


def _proxies(patient: Patient) -> Finding:
    settings = patient.settings
    name, trusted = "proxy headers", settings.trusted_proxies
    wide = trusted == "*" or any(ip_network(word).prefixlen < _FEW_BITS for word in trusted.split(",") if "/" in word)
    if wide:
        told = f"TRUSTED_PROXIES={trusted}: anybody's X-Forwarded-For is believed"
        advice = "name the proxy's address, or let nobody but the proxy reach the port: -p 127.0.0.1:8000:8000"
        return Finding(name, "warning", told, advice)
    told = f"X-Forwarded-For is believed from {trusted or 'nobody'}"
    alone = all(_is_loopback(word) for word in trusted.split(",") if word)
    if alone and patient.in_a_container:
        advice = "a proxy outside this container comes from another address: name it in TRUSTED_PROXIES"
        return Finding(name, "ok", told, advice)
    return Finding(name, "ok", told)


def _history(settings: Settings) -> Finding:
    if not settings.history:
        return Finding("history", "ok", "off: nothing that is said is kept")
    days = f"for {settings.history_days} days" if settings.history_days else "for ever"
    most = f", up to {settings.history_max_mb:,} MiB" if settings.history_max_mb else ""
    hint = "LOG_TEXT keeps what people say besides: tell them" if settings.log_text and settings.request_log else ""
    return Finding("history", "ok", f"conversations are kept {days}{most}", hint)


async def _limits(settings: Settings) -> Finding:
    name = "RATE_LIMIT"
    if settings.rate_limit_storage is not None:
        try:
            windows = Windows(settings.rate_limit_storage)
        except WindowsUnusable as problem:
            told, _, advice = str(problem).partition(". ")
            return Finding(name, "problem", told, advice)
        try:
            await windows.wait(parse("1/minute"), "doctor")
        except WindowsAway:
            advice = "start Redis, or correct RATE_LIMIT_STORAGE; meanwhile limits do not hold for all servers together"
            return Finding(name, "warning", "Redis does not answer", advice)
        finally:
            await windows.close()
    where = ", counted in Redis" if settings.rate_limit_storage is not None else ""
    if settings.rate_limit:
        return Finding(name, "ok", f"{settings.rate_limit}{where}")
    told = "none: one visitor may ask as often as they like"
    return Finding(name, "ok", told, "on the open internet set one, such as RATE_LIMIT=20/minute")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
