"""What can go wrong with signing in, as a tree; each error with the sentence that a user reads.

AccountError
├── BadName             not a name that an account can have
├── NameTaken
├── WeakPassword        too short, too common, too much like the name
├── WrongPassword       or no such account, or a disabled one: which of them is not told
└── TooManyTries        from this address, or for this name
"""

from __future__ import annotations

from typing import ClassVar

from app.errors import Language


class AccountError(Exception):
    """Each class holds its sentence in every language of the page; keyword arguments fill its places."""

    code: ClassVar[str]
    sentences: ClassVar[dict[Language, str]]

    def __init__(self, **facts: str | int) -> None:
        self.facts = facts
        super().__init__(self.sentence("en"))

    def sentence(self, language: Language) -> str:
        """What happened and what to do next, in plain words."""
        return self.sentences[language].format(**self.facts)


class BadName(AccountError):
    """Facts: `least` and `most` characters."""

    code = "bad_name"
    sentences = {
        "en": (
            "That name cannot be used. Take {least} to {most} letters and digits; "
            "dots, hyphens, underscores, + and @ may stand between them."
        ),
        "ru": (
            "Такое имя не подходит. Возьмите от {least} до {most} букв и цифр; "
            "между ними могут стоять точки, дефисы, подчёркивания, + и @."
        ),
    }


class NameTaken(AccountError):
    code = "name_taken"
    sentences = {
        "en": "There is an account of that name already. Take another name, or sign in.",
        "ru": "Такое имя уже занято. Возьмите другое или войдите.",
    }


class WeakPassword(AccountError):
    """A password that is not taken; a class for each reason."""

    code = "weak_password"


class PasswordTooShort(WeakPassword):
    """Facts: `least` characters."""

    sentences = {
        "en": "That password is too short. Take at least {least} characters; several words are easy to remember.",
        "ru": "Пароль слишком короткий. Нужно хотя бы {least} знаков; несколько слов легко запомнить.",
    }


class PasswordTooLong(WeakPassword):
    """Facts: `most` characters."""

    sentences = {
        "en": "That password is too long. At most {most} characters fit.",
        "ru": "Пароль слишком длинный. Можно не больше {most} знаков.",
    }


class PasswordUnusable(WeakPassword):
    sentences = {
        "en": "That password holds a sign that cannot be typed. Take letters, digits, spaces and other signs.",
        "ru": "В пароле есть знак, который нельзя набрать. Возьмите буквы, цифры, пробелы и другие знаки.",
    }


class PasswordCommon(WeakPassword):
    sentences = {
        "en": "That password is among the first that anybody would try. Take another, such as four unrelated words.",
        "ru": "Такой пароль попробуют одним из первых. Возьмите другой, например четыре несвязанных слова.",
    }


class PasswordLikeName(WeakPassword):
    sentences = {
        "en": "That password is too much like the name. Take another, such as four unrelated words.",
        "ru": "Пароль слишком похож на имя. Возьмите другой, например четыре несвязанных слова.",
    }


class WrongPassword(AccountError):
    code = "wrong_password"
    sentences = {
        "en": "The name or the password is wrong. Check both and try again.",
        "ru": "Имя или пароль не подходит. Проверьте и попробуйте ещё раз.",
    }


class TooManyTries(AccountError):
    """Facts: `seconds` until the next may be made."""

    code = "too_many_tries"
    sentences = {
        "en": "Too many tries. Wait {seconds} seconds, then try again.",
        "ru": "Слишком много попыток. Подождите {seconds} с и попробуйте снова.",
    }

    def __init__(self, *, seconds: int) -> None:
        super().__init__(seconds=seconds)
        self.seconds = seconds
