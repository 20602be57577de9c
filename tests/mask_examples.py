"""For each pattern of the presets: texts in which it must find something, with what must be gone, and texts that must stay.

The keys are made up here, and written in pieces so that no scanner of repositories takes them for real.
"""

from __future__ import annotations

from typing import NamedTuple

_B = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7"
_HEX = "0123456789abcdef0123456789abcdef"


class Examples(NamedTuple):
    """``caught``: (text, what must be gone). ``left``: texts that stay."""

    caught: tuple[tuple[str, str], ...]
    left: tuple[str, ...]


def _key(*parts: str) -> str:
    return "".join(parts)


def _around(secret: str) -> tuple[tuple[str, str], ...]:
    """A key in the places where they are seen."""
    return tuple(
        (text, secret)
        for text in (
            secret,
            f"use {secret}, please",
            f'{{"key": "{secret}"}}',
            f'[{{"content": "first line\\n{secret}\\nlast"}}]',
            f"X={secret}",
            f"https://example.com/?k={secret}&b=1",
            f"密钥{secret}。",
        )
    )


_OPENAI = _key("sk", "-proj-", _B, _B)
_ANTHROPIC = _key("sk", "-ant-api03-", _B, _B)
_LANGFUSE = _key("sk", "-lf-", "1b4e28ba-2fa1-11d2-883f-0016d3cca427")
_JWT = _key("ey", "JhbGciOiJIUzI1NiJ9", ".", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", ".", _B)
_PEM_BODY = _key("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", _B)

SECRETS: dict[str, Examples] = {
    "openai key": Examples(
        (*_around(_OPENAI), *_around(_key("sk", "-", _B, "T3BlbkFJ", _B))),
        ("sk-learn", "task-specific-risk-management-2024-framework", "sk-"),
    ),
    "anthropic key": Examples(_around(_ANTHROPIC), ("sk-ant-",)),
    "langfuse key": Examples(_around(_LANGFUSE), ("pk-lf-1b4e28ba-2fa1-11d2-883f-0016d3cca427", "sk-lf-...")),
    "openrouter key": Examples(_around(_key("sk", "-or-v1-", _HEX, _HEX)), ("sk-or-",)),
    "stripe key": Examples(
        (*_around(_key("sk", "_live_", _B)), *_around(_key("rk", "_test_", _B)), *_around(_key("wh", "sec_", _B))),
        ("sk_live_", "mask_live_data", "is_test_run"),
    ),
    "github token": Examples(
        (*_around(_key("gh", "p_", _B, _B)), *_around(_key("github", "_pat_", _B, "_", _B))), ("ghp_", "github_pat_example")
    ),
    "gitlab token": Examples(_around(_key("gl", "pat-", _B)), ("glpat-",)),
    "slack token": Examples(
        (*_around(_key("xo", "xb-123456789012-1234567890123-", _B)), *_around(_key("xa", "pp-1-A0-", _B))), ("xoxo-", "xapp-")
    ),
    "slack webhook": Examples(
        ((_key("https://hooks.slack.com/ser", "vices/T0123ABCD/B0123ABCD/", _B), _B),), ("https://example.com/services/a/b/c",)
    ),
    "aws key id": Examples(
        (*_around(_key("AK", "IAIOSFODNN7EXAMPLE")), *_around(_key("AS", "IAIOSFODNN7EXAMPLE"))),
        ("AKIA", "SAKIAIOSFODNN7EXAMPLE2", "ASIA"),
    ),
    "google api key": Examples(_around(_key("AI", "zaSyA", _B, "-bcdefg")), ("AIza",)),
    "google token": Examples((*_around(_key("ya", "29.", _B)), *_around(_key("GO", "CSPX-", _B))), ("ya29", "ya29.")),
    "azure key": Examples(
        (
            (_key("DefaultEndpointsProtocol=https;AccountName=a;Account", "Key=", _B, _B, "==;EndpointSuffix=x"), _B),
            (_key("Endpoint=sb://a/;SharedAccess", "Key=", _B, _B, "="), _B),
            (_key("https://a.example.com/c?sv=2022&s", "ig=", _B, _B, "%3D"), _B),
        ),
        ("AccountKey=", "sig=1", "design=modern"),
    ),
    "azure client secret": Examples(_around(_key("aBc8", "Q~", _B, "dEf7", "~x")), ("8Q~",)),
    "azure openai key": Examples(_around(_key(_B, _B[:25], "JQQ", "J99", "BAACYeBjFXJ3w3AAABACOG1234")), ("JQQJ99",)),
    "hugging face token": Examples(_around(_key("h", "f_", _B, _B)), ("hf_hub_download", "hf_")),
    "npm token": Examples(_around(_key("np", "m_", _B, "aB3dE6gH9")), ("npm_config_cache",)),
    "pypi token": Examples(_around(_key("py", "pi-AgEIcHlwaS5vcmc", _B, _B)), ("pypi-mirror",)),
    "sendgrid key": Examples(_around(_key("S", "G.", _B[:22], ".", _B, _B[:16])), ("SG.", "SG.1")),
    "twilio key": Examples(_around(_key("S", "K", _HEX)), (_key("TASK", _HEX), "SK0123")),
    "groq key": Examples(_around(_key("gs", "k_", _B, _B)), ("gsk_",)),
    "xai key": Examples(_around(_key("xa", "i-", _B, _B)), ("xai-",)),
    "perplexity key": Examples(_around(_key("pp", "lx-", _B, _B)), ("pplx-7b-online",)),
    "langsmith key": Examples(_around(_key("ls", "v2_pt_", _HEX, "_0123456789")), ("lsv2_pt_",)),
    "nvidia key": Examples(_around(_key("nv", "api-", _B, _B)), ("nvapi-",)),
    "json web token": Examples(_around(_JWT), ("eyJ", "the eyJelly.was.good")),
    "private key": Examples(
        (
            (f"-----BEGIN {'PRIVATE'} KEY-----\n{_PEM_BODY}\n-----END PRIVATE KEY-----\nafter", _PEM_BODY),
            (
                f'{{"private_key": "-----BEGIN RSA {"PRIVATE"} KEY-----\\n{_PEM_BODY}\\n-----END RSA PRIVATE KEY-----\\n"}}',
                _PEM_BODY,
            ),
            (f"-----BEGIN {'PRIVATE'} KEY-----\n{_PEM_BODY}", _PEM_BODY),
            (
                f"-----BEGIN EC {'PRIVATE'} KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n{_PEM_BODY}\n-----END",
                _PEM_BODY,
            ),
        ),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "| --- | --- |", "-----BEGIN PUBLIC KEY-----"),
    ),
    "password in a url": Examples(
        (
            ("postgresql://ada:hunter2@db.example:5432/app", "hunter2"),
            ("amqp://:s3cr3t!@mq/", "s3cr3t!"),
            ("see http://a:b%40c@x/", "b%40c"),
        ),
        ("https://example.com/a@b", "mail ada@example.com: hello", "http://localhost:8080/", "git@example.com:a/b.git"),
    ),
    "authorization": Examples(
        (
            (_key("curl -H 'Authorization: Bea", "rer opaque0token1here'"), "opaque0token1here"),
            ('{"headers": {"Authorization": "Basic YWRhOmh1bnRlcjI="}}', "YWRhOmh1bnRlcjI="),
            ('{\\"authorization\\": \\"Bearer abcdef012345\\"}', "abcdef012345"),
            ("AUTHORIZATION=abcdef", "abcdef"),
            (_key("Bea", "rer 0123456789abcdef"), "0123456789abcdef"),
        ),
        ("Bearer of bad news", "Basic understanding required", "authorization is needed", '{"authorization": null}'),
    ),
    "named secret": Examples(
        (
            ("password=hunter2", "hunter2"),
            ("PASSWORD=hunter2 USER=ada", "hunter2"),
            ('{"password": "correct horse"}', "correct horse"),
            ('{"db": {"Password" : "a\\"b\\\\c"}, "x": 1}', 'a\\"b'),
            ('{"args": "{\\"password\\": \\"correct horse\\"}"}', "correct horse"),
            ("{'client_secret': 'abc def'}", "abc def"),
            ("DB_PASSWORD: s3cr3t!", "s3cr3t!"),
            ("Server=x;Uid=ada;Pwd=hunter2;", "hunter2"),
            (f'{{"api_key": "{_HEX}"}}', _HEX),
            (f'{{"apiKey":"{_HEX}"}}', _HEX),
            (f"AZURE_OPENAI_API_KEY={_HEX}", _HEX),
            (f"X-API-Key: {_HEX}", _HEX),
            (f"TWILIO_AUTH_TOKEN={_HEX}", _HEX),
            (f'"access_token": "{_HEX}"', _HEX),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ),
        (
            '{"max_tokens": 512, "total_tokens": 742}',
            '{"token": "Hello", "logprob": -0.1}',
            "The password: it must have twelve characters.",
            "a token: the smallest unit",
            "password = getpass.getpass()",
            'api_key=os.environ["OPENAI_API_KEY"]',
            '{"key": "value"}',
            "secret: true",
            '{"password": ""}',
            "password=<masked: named secret>",
            "password=${DB_PASSWORD}",
            "primary_key: 0123456789abcdef0123",
        ),
    ),
}

PII: dict[str, Examples] = {
    "email": Examples(
        (
            ("write to ada.lovelace+x@mail.example.com.", "ada.lovelace+x@mail.example.com"),
            ('["first\\nada@example.com\\n"]', "ada@example.com"),
            ("<ada@example.co.uk>", "ada@example.co.uk"),
            ("jürgen@müller.example", "jürgen@müller.example"),
        ),
        ("@app.route", "a @ b", "user@host", "pip install x@1.2", "@example.com"),
    ),
    "card": Examples(
        (
            ("4111 1111 1111 1111", "4111 1111"),
            ("card 5500-0000-0000-0004 exp 12/27", "5500-0000"),
            ('{"n": "378282246310005"}', "378282246310005"),
            ("6011111111111117", "6011111111111117"),
            ("4111111111111111,", "4111111111111111"),
        ),
        ("4111 1111 1111 1112", "1767225601850279518", "1732147200000", "call_4111111111111111", "0.4111111111111111"),
    ),
    "iban": Examples(
        (
            ("DE89 3704 0044 0532 0130 00", "3704 0044"),
            ("IBAN GB82WEST12345698765432.", "GB82WEST12345698765432"),
            ("FR1420041010050500013M02606 THANKS", "FR1420041010050500013M02606"),
        ),
        ("DE89 3704 0044 0532 0130 01", "AB12 CDEF", "ISO27001 2022"),
    ),
    "phone": Examples(
        (
            ("+49 30 901820", "901820"),
            ("call +1 (212) 555-0123 now", "555-0123"),
            ("(212) 555-0123", "212) 555-0123"),
            ("212-555-0123", "212-555-0123"),
            ("+4930901820000", "4930901820000"),
            ("030 9018200", "030 9018200"),
            ("01 23 45 67 89", "01 23 45 67 89"),
        ),
        (
            "2024-01-15 10:30:00",
            "05-06-2023 10",
            "05/06/2023 10:30",
            "1732147200",
            "1.5 + 12345678",
            "00000000-0000-4000-8000-000000000001",
            "gpt-4o-2024-08-06",
            "0.123456789",
            "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
            "127 555 1212 99",
        ),
    ),
    "ip address": Examples(
        (
            ("from 203.0.113.7:443", "203.0.113.7"),
            ('{"ip":"198.51.100.24"}', "198.51.100.24"),
            ("8.8.8.8", "8.8.8.8"),
            ("2001:db8::8a2e:370:7334", "2001:db8"),
            ("[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:80", "0370:7334"),
            ("fe80::1%eth0", "fe80::1"),
        ),
        (
            "127.0.0.1",
            "version 1.2.3",
            "1.2.3.4.5",
            "0.1.2.3",
            "std::vector",
            "12:30:45",
            "a::b",
            "::1",
            '{"a":1,"b":2}',
            "256.1.1.1",
        ),
    ),
}
