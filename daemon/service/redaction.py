"""Keeps secrets out of whatever is written for people to read."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

from daemon.config import redact
from daemon.config.secret import MASK


class Redactor:
    """Masks known secrets, also quoted or percent-encoded, and what looks like a secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._plain: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask ``secrets`` too, from now on."""
        self._plain |= {form for secret in secrets for form in (secret, unquote(secret)) if form}
        longest_first = sorted(self._plain, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_any_encoding, longest_first)))

    def __call__(self, text: str) -> str:
        """Return ``text`` with every secret masked."""
        return redact(self._pattern.sub(MASK, text) if self._plain else text)


def _any_encoding(secret: str) -> str:
    """Return a pattern that matches ``secret`` with any of its characters encoded or escaped."""
    return "".join(f"(?:{'|'.join(_forms(character))})" for character in secret)


def _forms(character: str) -> list[str]:
    encoded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    plain = re.escape(character)
    if character in "\\'\"":
        plain = rf"\\?{plain}"  # as repr() shows it
    return [plain, f"(?i:{encoded})", *([r"\+"] if character == " " else [])]
