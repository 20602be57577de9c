"""What names a person, as far as its form tells: the preset ``pii``. Names and addresses have no form; see ``examples/``."""

from __future__ import annotations

import re
from typing import Final

from otel_langfuse.pipeline.mask._rows import Found, Late, Sweep

# -- e-mail --------------------------------------------------------------------------------------------------------------------

_LOCAL: Final = bytes(byte for byte in range(256) if byte > 127 or chr(byte).isalnum() or chr(byte) in "._%+-")
_MAX_LOCAL: Final = 64  # RFC 5321, 4.5.3.1.1
_DOMAIN: Final = re.compile(rb"@(?:[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]{0,62}\.){1,8}[A-Za-z\x80-\xff]{2,24}")


def _email(data: bytes, match: re.Match[bytes]) -> Found:
    before = data[max(match.start() - _MAX_LOCAL, 0) : match.start()]
    local = before[len(before.rstrip(_LOCAL)) :].lstrip(b".-")
    return (match.start() - len(local), match.end(), "email") if local else None


# -- numbers -------------------------------------------------------------------------------------------------------------------

_ALONE: Final = rb"(?<![A-Za-z0-9_.,-])"  # no other number or word goes on here
_CARD: Final = re.compile(
    _ALONE + rb"(?:[3-6][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[47][0-9]{2}([ -])[0-9]{6}\2[0-9]{5}"
    rb"|4[0-9]{12}(?:[0-9]{3}){0,2}|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|3[0689][0-9]{12}|35[0-9]{14}"
    rb"|6(?:011|[245][0-9]{2})[0-9]{12,15})(?![A-Za-z0-9_-])"
)
_PHONE: Final = re.compile(
    rb"(?:(?<=\+)[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}"  # +49 30 1234567, ITU-T E.123
    rb"|" + _ALONE + rb"(?:(?:1[ .-])?[2-9][0-9]{2}(?:\) ?|[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"  # (212) 555-0123
    rb"|0[1-9][0-9]{1,4}\)?[ /][0-9]{4,8}|0[1-9][0-9]{0,4}([ -])[0-9]{2,4}(?:\1[0-9]{2,4}){1,4}))"  # 030 1234567, 01 23 45 67 89
    rb"(?![0-9A-Za-z_]|[.:-][0-9])"
)
_OCTET: Final = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(_ALONE + _OCTET + rb"(?:\." + _OCTET + rb"){3}(?![0-9A-Za-z_-]|\.[0-9])")
_IBAN: Final = re.compile(rb"(?<=[A-Z]{2})(?<![A-Za-z0-9][A-Z]{2})[0-9]{2}(?: ?[A-Z0-9]){11,30}")
# How long each country's is (https://www.swift.com/standards/data-standards/iban-international-bank-account-number).
_IBAN_LENGTHS: Final = {
    country.encode(): length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
_LETTERS: Final = [str(int(sign, 36) if sign.isalnum() else 0).encode() for sign in map(chr, range(128))]
# A digit where one of them may begin. As it begins with a set of characters, re looks for these first, which is three times
# faster than what begins with an assertion.
_CANDIDATE: Final = re.compile(
    rb"[0-9](?<=(?=" + _ALONE + rb"(?:[0-9]{13}|[0-9]{4}[ -][0-9]{4,6}[ -][0-9]{4}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
    rb"|(?:1[ .-])?[2-9][0-9]{2}[). -] ?[2-9][0-9]{2}[ .-][0-9]{4}|0[1-9](?:[ )/-]{0,2}[0-9]){7})"
    rb"|(?<=\+)[1-9](?:[ .()-]{0,2}[0-9]){7}|(?<=[A-Z]{2})[0-9]{2}(?: ?[A-Z0-9]){0,6}(?: ?[0-9]){6})[0-9])"
)
# In data that is full of digits, the forms themselves are looked for, by their first digit; numbers that do not stand alone by
# what stands before them.
_US_REST: Final = rb"[0-9]{2}(?:\) ?|[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
_IP_REST: Final = rb"[0-9]{0,2}(?:\.[0-9]{1,3}){3}"
_FOURS: Final = rb"[0-9]{3}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}"
_DENSE: Final = (
    Late(
        rb"(?<![A-Za-z0-9_.,-])(?=[0-9][0-9. )/-]{6})(?:"
        rb"0(?="
        + _IP_REST
        + rb"|[1-9](?:(?:[0-9]{0,4}-[0-9](?:-?[0-9]){5}|[0-9]{0,4} [0-9](?: ?[0-9]){5}|[0-9]{1,4}\)?[ /][0-9]{4})))"
        rb"|1(?=" + _IP_REST + rb"|[ .-][2-9]" + _US_REST + rb")"
        rb"|2(?=" + _IP_REST + rb"|" + _US_REST + rb"|[2-7][0-9]{14}(?![0-9]))"
        rb"|3(?="
        + _US_REST
        + rb"|"
        + _IP_REST
        + rb"|"
        + _FOURS
        + rb"|[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}|[04-9][0-9]{12,14}(?![0-9]))"
        rb"|4(?=" + _US_REST + rb"|" + _IP_REST + rb"|" + _FOURS + rb"|[0-9]{12}(?:[0-9]{3}){0,2}(?![0-9]))"
        rb"|5(?=" + _US_REST + rb"|" + _IP_REST + rb"|" + _FOURS + rb"|[1-5][0-9]{14}(?![0-9]))"
        rb"|6(?=" + _US_REST + rb"|" + _IP_REST + rb"|" + _FOURS + rb"|[0245][0-9]{14,17}(?![0-9]))"
        rb"|[7-9](?=" + _US_REST + rb"|" + _IP_REST + rb"))"
    ),
    Late(rb"\+[1-9](?=(?:[ .()-]{0,2}[0-9]){7})"),
    Late(rb"[A-Z](?<![A-Za-z0-9][A-Z])(?=[A-Z][0-9]{2}(?: ?[A-Z0-9]){11})[A-Z][0-9]"),
)
_PHONE_DIGITS: Final = range(9, 16)
_NO_DIGITS: Final = bytes(byte for byte in range(256) if not 48 <= byte < 58)


_VALUES: Final = bytes(max(byte - 48, 0) for byte in range(256))
_DOUBLED: Final = bytes(sum(divmod(2 * max(byte - 48, 0), 10)) % 256 for byte in range(256))


def _card(_: bytes, match: re.Match[bytes]) -> Found:
    """The check sum of payment cards, ISO/IEC 7812-1 annex B (Luhn)."""
    digits = match[0].translate(None, b" -")
    total = sum(digits[-1::-2].translate(_VALUES)) + sum(digits[-2::-2].translate(_DOUBLED))
    return (*match.span(), "card") if total % 10 == 0 else None


def _phone(data: bytes, match: re.Match[bytes]) -> Found:
    if len(match[0].translate(None, _NO_DIGITS)) not in _PHONE_DIGITS:
        return None
    start = match.start() - (data[match.start() - 1 : match.start()] in (b"+", b"("))
    return start - (data[start - 1 : start] == b"("), match.end(), "phone"


def _ipv4(_: bytes, match: re.Match[bytes]) -> Found:
    is_own = match[0].startswith((b"127.", b"0."))  # of the machine itself: nobody's
    return None if is_own else (*match.span(), "ip address")


def _iban(data: bytes, match: re.Match[bytes]) -> Found:
    """ISO 13616: the country and the check digits go to the end, letters count from 10, and the number is 1 modulo 97."""
    start = match.start() - 2
    length = _IBAN_LENGTHS.get(data[start : start + 2])
    if length is None:
        return None
    text = data[start : match.end()]
    plain = text.replace(b" ", b"")[:length]
    if len(plain) < length or int(b"".join([_LETTERS[sign] for sign in plain[4:] + plain[:4]])) % 97 != 1:
        return None
    end = length
    while end < len(text) and end - text.count(b" ", 0, end) < length:
        end += 1
    return None if data[start + end : start + end + 1].isalnum() else (start, start + end, "iban")


_NUMBERS: Final = ((_CARD, _card), (_IPV4, _ipv4), (_PHONE, _phone))


def _number(data: bytes, match: re.Match[bytes]) -> Found:
    at = match.end() - 1
    if data[at - 1 : at].isupper():  # nothing but an IBAN begins with letters
        number = _IBAN.match(data, at) if data[at - 2 : at] in _IBAN_LENGTHS else None
        return None if number is None else _iban(data, number)
    for pattern, check in _NUMBERS:
        number = pattern.match(data, at)
        if number is not None and (found := check(data, number)) is not None:
            return found
    return None


# -- IPv6 ----------------------------------------------------------------------------------------------------------------------

_HEX: Final = b"0123456789abcdefABCDEF:"
_COLONS: Final = re.compile(
    rb":(?<=[0-9A-Fa-f:]:)(?:(?=:[0-9A-Fa-f])|(?=(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]|(?<=:[0-9A-Fa-f]{4}:)[0-9A-Fa-f])))"
    rb"[0-9A-Fa-f:]{1,40}"
)


# For data that is full of colons: of six characters at least.
_H: Final = rb"[0-9A-Fa-f:]"
_RUN: Final = Late(
    rb":(?:(?<="
    + _H
    + rb"{3}:)(?=:"
    + _H
    + rb")|(?<="
    + _H
    + rb"{2}:)(?=:"
    + _H
    + rb"{2})|(?<="
    + _H
    + rb":)(?=:"
    + _H
    + rb"{3})"
    rb"|(?=:" + _H + rb"{4})|(?=(?:[0-9A-Fa-f]{1,4}:){6}[0-9A-Fa-f]))" + _H + rb"+"
)


def _ipv6(data: bytes, match: re.Match[bytes]) -> Found:
    low = max(match.start() - 40, 0)
    start = low + len(data[low : match.start()].rstrip(_HEX))
    text = data[start : match.end()].rstrip(b":")
    if not 6 <= len(text) <= 39 or not _is_ipv6(text) or not any(48 <= sign < 58 for sign in text):
        return None
    if data[start - 1 : start].isalnum() or data[match.end() : match.end() + 1].isalnum():
        return None
    is_own = text.strip(b"0:") == b"1" and text.endswith(b"1")  # ::1, of the machine itself
    return None if is_own else (start, start + len(text), "ip address")


def _is_ipv6(text: bytes) -> bool:
    """Whether hex digits and colons are an address, RFC 4291 section 2.2: eight groups, or fewer with one ``::``."""
    head, gap, tail = text.partition(b"::")
    groups = (head.split(b":") if head else []) + (tail.split(b":") if tail else [])
    return all(0 < len(group) < 5 for group in groups) and (len(groups) < 8 if gap else len(groups) == 8)


SWEEPS: Final = (
    Sweep(_DOMAIN, _email, b"@"),
    Sweep(_CANDIDATE, _number, often=b"0123456789", dense=_DENSE),
    Sweep(_COLONS, _ipv6, b":", often=b":", dense=(_RUN,)),
)

NAMES: Final = frozenset({"email", "card", "iban", "phone", "ip address"})
"""What may be found."""
