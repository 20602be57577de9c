"""Keys, tokens and passwords, as the providers write them: the preset ``secrets``.

Each provider says how its keys begin, mostly so that they can be found: GitHub
(https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/), AWS
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html), and so on; the forms are those that secret scanners
agree upon (https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from otel_langfuse.pipeline.mask._rows import Found, Late, Row, row
from otel_langfuse.pipeline.mask._scan import MAX_WIDTH

# A token begins where no other goes on; after an escape of JSON or of a URL one may begin, too.
_BEGIN: Final = rb"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})|(?<=%[0-9A-F]{2}))"
_NOT_IN_BASE64: Final = rb"(?<![A-Za-z0-9+/]{64})"  # one image of 1 MB in about a thousand has such letters by chance
_DIGIT: Final = rb"(?=[A-Za-z_.~+/=-]{0,200}[0-9])"  # words have none


# -- name = value --------------------------------------------------------------------------------------------------------------

_STRONG: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secret_key",
    "secretKey",
    "secret-key",
    "private_key",
    "privateKey",
)
_TOKENS: Final = (
    *("token", "api_key", "apikey", "apiKey", "api-key", "API-Key", "access_key", "accessKey", "access-key"),
    *("subscription-key", "account_key", "accountKey"),
)
_NAMED: Final = "named secret"
_AUTHORIZATION: Final = "authorization"
_CLOSING: Final = rb"(?:\\{0,3}[\"'])? {0,2}\Z"
_PASSWORD: Final = Late(rb"(?i)(?:passw(?:or)?d|passphrase|pwd|secret(?:[_-]?key)?|private[_-]?key)" + _CLOSING)
_KEY: Final = Late(rb"(?i)(?:token|(?:api|access|account|subscription)[_-]?key)" + _CLOSING)
_CLOSINGS: Final = (b"", b'"', b"'", b'\\"', b'" ', b" ")
_SCHEME: Final = rb"(?:(?i:Bearer|Basic|Token|ApiKey|Digest) +)?"
_QUOTED: Final = Late(
    rb" {0,3}(?:"
    rb'"' + _SCHEME + rb'((?:[^"\\\0]+|\\[^\0])+)'
    rb'|\\+"' + _SCHEME + rb'((?:[^"\\\0]+|\\(?![\\"]))+)'  # JSON in JSON
    rb"|'" + _SCHEME + rb"((?:[^'\\\0]+|\\[^\0])+))"
)
_BARE: Final = Late(rb" {0,3}" + _SCHEME + rb"([^\s\"'`,;&<>(){}\[\]\\\0]{1,100})")
_REST: Final = Late(rb"[^\s\"'`,;&<>(){}\[\]\\\0]*")  # looked at only of what is a secret, so that no text is looked at twice
_KEY_VALUE: Final = Late(
    rb" {0,3}(?:\\{0,3}[\"'])?"
    + _SCHEME
    + rb"(?=[A-Za-z._~+/=:|-]{0,64}[0-9])([A-Za-z0-9._~+/=:|-]{16,})(?![^\s\"'`,;&<>)}\]\\\0])"
)
_HAS_SIGN: Final = Late(rb"[^A-Za-z.:_-]")
_NO_SECRET: Final = (b"<masked", b"***", b"$", b"{", b"%")


def _password(data: bytes, _: int, at: int) -> Found:
    """The value after ``password=`` or ``"password":``, whatever it looks like."""
    if _PASSWORD.search(data, max(at - 24, 0), at) is None:
        return None
    if match := _QUOTED.match(data, at + 1):
        return _place(match, _NAMED)
    match = _BARE.match(data, at + 1)
    if match is None or data[match.end() : match.end() + 1] in (b"(", b"["):  # a call or a look-up in a program
        return None
    is_tight = data[at : at + 1] == b"=" and data[at + 1 : at + 2] != b" "
    is_secret = len(match[1]) >= 4 and (is_tight or _HAS_SIGN.search(match[1]) is not None)
    return _bare_place(data, match, _NAMED) if is_secret else None


def _key(data: bytes, _: int, at: int) -> Found:
    """The value after ``api_key=`` or ``"token":``, if it looks like one: language models, too, speak of tokens."""
    match = _KEY_VALUE.match(data, at + 1)
    if match is None or _KEY.search(data, max(at - 24, 0), at) is None:
        return None
    return None if data[match.end() : match.end() + 1] in (b"(", b"[") else _place(match, _NAMED)


_HEADER_PATTERN: Final = rb"(?i:authorization)(?:\\{0,3}[\"'])? {0,2}[:=]"
_HEADER: Final = Late(_HEADER_PATTERN)


def _header(data: bytes, start: int, _: int) -> Found:
    """What an ``Authorization`` header says, whatever its form."""
    header = _HEADER.match(data, start)
    if header is None:
        return None
    if match := _QUOTED.match(data, header.end()):
        return _place(match, _AUTHORIZATION) if len(match[match.lastindex or 0]) >= 6 else None
    match = _BARE.match(data, header.end())
    return None if match is None or len(match[1]) < 6 else _bare_place(data, match, _AUTHORIZATION)


def _place(match: re.Match[bytes], name: str) -> Found:
    group = match.lastindex or 0
    return None if match[group].startswith(_NO_SECRET) else (*match.span(group), name)


def _bare_place(data: bytes, match: re.Match[bytes], name: str) -> Found:
    rest = _REST.match(data, match.end())
    return None if match[1].startswith(_NO_SECRET) or rest is None else (match.start(1), rest.end(), name)


# Where texts are full of signs: names with their values' beginnings, as near to the above as one expression comes.
_PASSWORD_NAMES: Final = {"p": "assw(?:or)?d|assphrase|wd|rivate[_-]?key", "s": "ecret(?:[_-]?key)?"}
_KEY_NAMES: Final = {"t": "oken", "a": "(?:pi|ccess|ccount)[_-]?key", "s": "ubscription[_-]?key"}
_SCHEME_LIKELY: Final = rb"(?:[BbTtAaDd][A-Za-z]{4,5} +)?"
_PASSWORD_VALUE: Final = (
    rb"(?<==)[^\s\"'`,;&<>(){}\[\]\\\0$%*]{4}"
    rb"| {0,3}(?:(?:[\"']|\\{1,99}\")[^\"'\0]"
    rb"|" + _SCHEME_LIKELY + rb"(?![*$%])[A-Za-z.:_-]{0,99}[^A-Za-z.:_\s\"'`,;&<>(){}\[\]\\\0-])"
)
_KEY_VALUE_LIKELY: Final = rb" {0,3}(?:\\{0,3}[\"'])?" + _SCHEME_LIKELY + rb"[A-Za-z0-9._~+/=:|-]{16}"


def _dense(names: Mapping[str, str], value: bytes) -> dict[bytes, tuple[Late]]:
    """For each sign, an expression of a name up to the sign, and likely a value behind it. ``re`` looks for first letters."""
    letters = [(letter, rest) for first, rest in names.items() for letter in (first, first.upper())]
    return {
        sign: (
            Late(
                b"|".join(
                    f"{letter}(?i:{rest})".encode() + rb"(?:\\{0,3}[\"'])? {0,2}" + sign + rb"(?=" + value + rb")"
                    for letter, rest in letters
                )
            ),
        )
        for sign in (b":", b"=")
    }


def _spelled(names: tuple[str, ...], signs: bytes) -> tuple[bytes, ...]:
    """How the names end, up to the sign: ``_value`` reads the whole name itself."""
    spellings = {spelling.encode() for name in names for spelling in (name, name.upper(), name[:1].upper() + name[1:])}
    ends = {(name + closing)[-MAX_WIDTH:] for name in spellings for closing in _CLOSINGS}
    return tuple(sorted(end + bytes([sign]) for end in ends for sign in signs))


# -- a login in a URL ----------------------------------------------------------------------------------------------------------

_LOGIN: Final = Late(rb"[^\s/:@\"'<>\\\0]{0,128}:([^\s/@\"'<>\\\0]{1,256})\Z")
_LOGIN_END: Final = Late(rb"://[^\s/:@\"'<>\\\0]{0,128}:[^\s/@\"'<>\\\0]{1,256}@")


def _login(data: bytes, _: int, at: int) -> Found:
    low = max(at - 400, 0)
    slashes = data.rfind(b"://", low, at)
    if slashes < 0:
        return None
    match = _LOGIN.match(data, slashes + 3, at)
    return None if match is None else (*match.span(1), "password in a url")


_SK_PATTERN: Final = _BEGIN + rb"sk-(?:(?:ant|lf|or)-[A-Za-z0-9_-]{20,}|(?=[A-Za-z0-9_-]{20})" + _DIGIT + rb"[A-Za-z0-9_-]{20,})"
_SK: Final = Late(_SK_PATTERN)
_SK_NAMES: Final = {b"sk-an": "anthropic key", b"sk-lf": "langfuse key", b"sk-or": "openrouter key", b"": "openai key"}


def _sk(data: bytes, start: int, _: int) -> Found:
    match = _SK.match(data, start)
    return None if match is None else (*match.span(), _SK_NAMES.get(match[0][:5], _SK_NAMES[b""]))


ROWS: Final = (
    row("", (b"sk-",), _SK_PATTERN)._replace(names=tuple(_SK_NAMES.values()), find=_sk),
    row(
        "stripe key",
        (b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_", b"whsec_"),
        _BEGIN + rb"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9+/=]{16,}",
    ),
    row(
        "github token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        _BEGIN + rb"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    row(
        "gitlab token",
        (b"glpat-", b"gldt-", b"glrt-", b"glptt-", b"glcbt-", b"glsoat-"),
        _BEGIN + rb"gl(?:pat|dt|rt|ptt|cbt|soat)-[A-Za-z0-9_.-]{20,}",
    ),
    row(
        "slack token",
        (b"xoxb-", b"xoxp-", b"xoxa-", b"xoxe-", b"xoxo-", b"xoxr-", b"xoxs-", b"xapp-"),
        _BEGIN + rb"(?:xox[abeoprs]|xapp)-[0-9A-Za-z-]{10,}",
    ),
    row("slack webhook", (b"services/",), rb"services/(T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,})"),
    row("aws key id", (b"AK", b"AS"), _BEGIN + rb"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    row("google api key", (b"AIz",), _BEGIN + _NOT_IN_BASE64 + rb"AIza[A-Za-z0-9_-]{35}"),
    row("google token", (b"ya29", b"GOCSPX-"), _BEGIN + rb"(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{20,}"),
    row(
        "azure key",
        (b"AccountKey=", b"SharedAccessKey=", b"sig="),
        rb"(?:AccountKey|SharedAccessKey|(?<![A-Za-z0-9])sig)=([A-Za-z0-9+/%]{40,}=*)",
    ),
    row("azure client secret", (b"8Q~",), _BEGIN + rb"[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,34}", back=3),
    row("azure openai key", (b"JQQJ",), _BEGIN + rb"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{26}", back=52),
    row("hugging face token", (b"hf_", b"api_org_"), _BEGIN + rb"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    row("npm token", (b"npm_",), _BEGIN + rb"npm_[A-Za-z0-9]{36}"),
    row("pypi token", (b"pypi-",), _BEGIN + rb"pypi-[A-Za-z0-9_-]{50,}"),
    row("sendgrid key", (b"SG",), _BEGIN + rb"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}"),
    row("twilio key", (b"SK",), _BEGIN + rb"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    row("groq key", (b"gsk_",), _BEGIN + rb"gsk_[A-Za-z0-9]{40,}"),
    row("xai key", (b"xai-",), _BEGIN + rb"xai-[A-Za-z0-9]{40,}"),
    row("perplexity key", (b"pplx-",), _BEGIN + rb"pplx-[A-Za-z0-9]{40,}"),
    row("langsmith key", (b"lsv2_pt_", b"lsv2_sk_"), _BEGIN + rb"lsv2_(?:pt|sk)_[A-Za-z0-9_]{32,}"),
    row("nvidia key", (b"nvapi-",), _BEGIN + rb"nvapi-[A-Za-z0-9_-]{40,}"),
    row("json web token", (b"eyJ",), _BEGIN + rb"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){0,3}"),
    row(
        "private key",
        (b"-----BEG",),
        rb"-----BEGIN[A-Z0-9 ]{1,40}PRIVATE KEY(?: BLOCK)?-----"
        rb"[^\0-]*(?:-(?!----)[^\0-]*){0,64}(?:-----END[A-Z0-9 ]{1,40}-----)?",
    ),
    Row(("password in a url",), (b"@",), _login, b"://", {b"@": (_LOGIN_END,)}),
    row("", (b"authoriz", b"Authoriz", b"AUTHORIZ"), _HEADER_PATTERN)._replace(names=(_AUTHORIZATION,), find=_header),
    row(
        "authorization",
        (b"B",),
        rb"B(?:earer|asic) +(?=[A-Za-z._~+/=-]{0,200}(?:[0-9=]|[a-z][A-Z]))([A-Za-z0-9._~+/=-]{12,})",
    ),
    Row((_NAMED,), _spelled(_STRONG, b":=") + _spelled(("pwd",), b"="), _password, b"", _dense(_PASSWORD_NAMES, _PASSWORD_VALUE)),
    Row((_NAMED,), _spelled(_TOKENS, b":="), _key, b"", _dense(_KEY_NAMES, _KEY_VALUE_LIKELY)),
)


_RARE: Final = b"~@+=/-_ZQXJKVWYUBGDFHPLMNRCSTIOEA"


def own_rows(secrets: tuple[str, ...]) -> tuple[Row, ...]:
    """Rows for secrets that are known themselves; shorter ones than 8 characters would be found in any text."""
    known = [secret.encode() for secret in secrets if len(secret) >= 8]
    return tuple(row("own key", (_start(secret),), re.escape(secret)) for secret in known if not _SK.fullmatch(secret))


def _start(secret: bytes) -> bytes:
    """How it begins, up to the byte of it that texts have least."""
    byte = min(secret, key=lambda byte: (_RARE + b"zqxj9876543210").find(byte) % 256)
    return secret[: secret.index(byte) + 1]


# -- names of attributes -------------------------------------------------------------------------------------------------------

_SECRET_NAMES: Final = re.compile(
    r"(?i)(?:^|[._\-]|(?<=[a-z])(?=[A-Z]))(?:pass(?:word|wd|phrase)|secret|token|credentials?|authorization|(?:set-)?cookie"
    r"|(?:secret|private|(?:x-)?api|access|account)[_-]?key)\Z"
)


_ENDINGS: Final = ("word", "sswd", "rase", "cret", "oken", "tial", "ials", "tion", "okie", "key")


def names_a_secret(key: str) -> bool:
    """Whether an attribute's key says that its value is one: ``db.password``, ``http.request.header.authorization``."""
    return key[-4:].lower().endswith(_ENDINGS) and _SECRET_NAMES.search(key) is not None
