"""Test that secrets are found by name and by form, and replaced by a placeholder that names the rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from secret_samples import JWT, PEM

from otelflow._secrets.detect import redact
from otelflow._secrets.names import secret_in_name
from otelflow._values.attribute import to_attribute, to_json
from otelflow._values.text import scrub_and_truncate

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ"


# --- names ----------------------------------------------------------------------------------------------------------

SECRET_NAMES = """
    password Password PASSWORD passwd pwd db.password dbPassword PGPASSWORD MYSQL_ROOT_PASSWORD user_password password2
    password_confirmation token access_token accessToken refresh_token id_token github_token GITHUB_TOKEN csrftoken
    X-CSRF-Token secret client_secret clientSecret AWS_SECRET_ACCESS_KEY secret_key SECRET_KEY_BASE api_key apiKey
    APIKey X-Api-Key apikey api-key OPENAI_API_KEY api_key_prod authorization Authorization Proxy-Authorization
    http.request.header.authorization cookie set-cookie Set-Cookie http.request.header.cookie cookies credentials
    aws_credentials private_key privateKey ssl.private_key session_id sessionId JSESSIONID PHPSESSID connect.sid
    AccountKey SharedAccessKey db_pass smtp_pass passphrase jwt otp cvv X-Amz-Signature sig auth_token authToken
    X-Auth-Token token_value cookie_header secret_value vault.secret_id bearer_token session_token signing_key
    encryption_key passwords secrets X-Amz-Security-Token xsrf-token license_key
"""


OTHER_NAMES = """
    token_count tokens max_tokens token_ids token_type token_url token_bucket tokenizer next_token nextToken
    next_page_token eos_token pad_token author authors authored authority secretary secretariat cookie_banner_enabled
    cookie_domain cookieConsent cookiecutter password_length passwordPolicy password_reset_url password_required
    password_expires_at has_passport passport passenger passenger_id compass bypass passed pass passes pass_count
    secret_name secretArn secret_version api_key_count api_key_id apiKeyName access_key_id key keys keyboard monkey
    primary_key foreign_key sort_key partition_key cache_key key_name public_key public_key_id credential_type
    credentials_file session session_count session_duration session_name id user_id order_id trace_id span_id
    messaging.message.id http.request.method http.response.status_code url.full server.address db.system
    code.function.name exception.message exception.type error.type otelflow.flow.run_id otelflow.task.name
    gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.token.type llm.token_count.prompt prompt_token
    max_token total_token design signal signature assign authentication auth_method auth_type author_id codec code
    zip_code country_code promo_code accredited credit credit_limit sacred incredible option option_name cwd side inside
    resid president jwt_expiry invalid_token unexpected_token password_strength oauth_provider
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_values_under_secret_names_are_replaced(name: str) -> None:
    """In any spelling of the name, the whole value is replaced, on a span and in JSON."""
    assert secret_in_name(name)
    assert to_attribute(name, "x y z")[0] == f"[redacted:name {secret_in_name(name)}]"
    assert json.loads(to_json({"deep": [{name: "x y z"}]}).text)["deep"][0][name].startswith("[redacted:name ")


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_values_under_similar_names_stay(name: str) -> None:
    """A name that only describes a secret, or contains its letters, is harmless."""
    assert to_attribute(name, "x y z")[0] == "x y z"
    assert json.loads(to_json({name: 5}).text) == {name: 5}


@pytest.mark.parametrize("value", [True, False, None, "", "***", "[redacted:jwt]"])
def test_values_that_reveal_no_secret_stay(value: Any) -> None:
    """It may be known whether there is a password. A placeholder is not replaced again."""
    assert json.loads(to_json({"password": value}).text) == {"password": value}


@pytest.mark.parametrize("value", ["hunter2", 12345, 1.5, b"hunter2", ["hunter2"], {"a": "hunter2"}, object()])
def test_a_value_of_any_kind_is_replaced_by_its_name(value: Any) -> None:
    """Numbers, lists and objects are replaced as well: as an attribute, in JSON, and in a pair of name and value."""
    mark = "[redacted:name password]"
    assert to_attribute("password", value) == (mark, False)
    assert json.loads(to_json({"a": {"password": value}, "b": [("password", value)]}).text) == {
        "a": {"password": mark},
        "b": [["password", mark]],
    }


# --- forms ----------------------------------------------------------------------------------------------------------

FORMS = {
    JWT: "jwt",
    "AKIAIOSFODNN7EXAMPLE": "aws key",
    "ASIAIOSFODNN7EXAMPLE": "aws key",
    "AIza" + ALPHABET[:35]: "gcp key",
    "ya29." + ALPHABET: "gcp key",
    "GOCSPX-" + ALPHABET[:28]: "gcp key",
    "ghp_" + ALPHABET[:36]: "github token",
    "github_pat_" + ALPHABET: "github token",
    "glpat-" + ALPHABET[:20]: "gitlab token",
    "xoxb-1234567890-1234567890123-" + ALPHABET[:24]: "slack token",
    "xapp-1-A0123456789-" + ALPHABET: "slack token",
    "sk_live_" + ALPHABET[:24]: "stripe key",
    "rk_test_" + ALPHABET[:24]: "stripe key",
    "whsec_" + ALPHABET[:32]: "stripe key",
    "sk-proj-" + ALPHABET: "api key",
    "sk-ant-api03-" + ALPHABET * 2: "api key",
    "hf_" + ALPHABET[10:46]: "api key",
    "npm_" + ALPHABET[:36]: "api key",
    "pypi-" + ALPHABET: "api key",
    "SG." + ALPHABET[:22] + "." + ALPHABET[:43]: "api key",
    "hvs." + ALPHABET[:24]: "api key",
    "glsa_" + ALPHABET[:32]: "api key",
    PEM: "private key",
    PEM.replace("\n", "\\n"): "private key",
    PEM.replace("RSA", "OPENSSH"): "private key",
    "4111111111111111": "card number",
    "4111 1111 1111 1111": "card number",
    "5500-0000-0000-0004": "card number",
    "378282246310005": "card number",
    "3782 822463 10005": "card number",
    "6011000990139424": "card number",
}


@pytest.mark.parametrize(("secret", "rule"), FORMS.items(), ids=lambda value: str(value)[:12])
def test_secrets_of_a_known_form_are_replaced(secret: str, rule: str) -> None:
    """They are found alone, in a sentence, in JSON, and after an escaped line end."""
    mark = f"[redacted:{rule}]"
    for before, behind in (("", ""), ("see ", " there"), ('{"a": "', '"}'), ("a\\n", "\\n"), ("(", ")"), ("", ".")):
        assert redact(f"{before}{secret}{behind}") == f"{before}{mark}{behind}"
    assert to_attribute("value", secret)[0] == mark
    assert to_attribute("values", ["a", secret])[0] == ("a", mark)


@pytest.mark.parametrize(
    ("text", "clean_text"),
    [
        ("postgres://me:hunter2@db/shop", "postgres://me:[redacted:url password]@db/shop"),
        ("redis://:p@ss@h:1/0", "redis://:[redacted:url password]@h:1/0"),
        (f"https://{ALPHABET}@h/x", "https://[redacted:url password]@h/x"),
        (f"hooks.slack.com/services/T0/B0/{ALPHABET}", "hooks.slack.com/services/[redacted:slack token]"),
        ("got Bearer abcdefghijklmnop!", "got Bearer [redacted:bearer]!"),
        ("basic dXNlcjpwYXNz", "basic [redacted:basic]"),
        ("x8Q~" + "a" * 34, "x8[redacted:azure key]"),
        ("bot123456789:AA" + ALPHABET[:33], "bot123456789[redacted:api key]"),
    ],
)
def test_only_the_secret_part_of_a_match_is_replaced(text: str, clean_text: str) -> None:
    """The user of a URL and the kind of a credential stay visible."""
    assert redact(text) == clean_text


@pytest.mark.parametrize(
    "text",
    [
        "working",
        "flow_00000000000000000000000000000001",
        "550e8400-e29b-41d4-a716-446655440000",
        "12345678-1234-1234-1234-123456789012",
        "2026-11-27T19:20:21.123456Z",
        "1764271281123",  # ms, and the two below µs and ns: no card begins with 1
        "1764271281123456",
        "1764271281123456789",
        "4111111111111112",  # a wrong checksum
        "0.4111111111111111",
        "id4111111111111111",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "/data/in/2026/orders.csv: 17 rows, 3.2 s",
        "http://localhost:8080/a@b",
        "Basic authentication failed",
        "the bearer of this letter",
        "a risk-based-approach-to-everything",
        "Invalid token: unexpected end of input",
        "password: must be at least 8 characters",
        "max_tokens=512, token_count: 7, next_token=abc",
        "primary_key=id, key: value",
        "author: me, secretary = you",
        "password=***, token: None, secret=${SECRET}, api_key=<your key>, pwd=%s",
        "PWD=/home/app",
        "password: [redacted:name password]",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    """Times, ids, digests, sentences about secrets and placeholders are not secrets."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean_text"),
    [
        ("password=hunter2", "password=@password"),
        ("login with password: hunter2, ok", "login with password: @password, ok"),
        ("db.password = 'hun ter2'", "db.password = '@password'"),
        ('{"password": "hun\\"ter2", "n": 1}', '{"password": "@password", "n": 1}'),
        ('{"token_count": 5, "token": "x"}', '{"token_count": 5, "token": "@token"}'),
        ('{"password": 12345, "n": 1}', '{"password": "@password", "n": 1}'),
        ('{"credentials": {"user": "bob", "k": [1]}, "n": 1}', '{"credentials": "@credentials", "n": 1}'),
        (r'"{\"a\": {\"api_key\": \"hunter2\"}}"', r'"{\"a\": {\"api_key\": \"@api_key\"}}"'),
        ("{'headers': {'Authorization': 'Digest x=\"y\"'}}", "{'headers': {'Authorization': '@authorization'}}"),
        ("[('Cookie', 'a=b'), ('n', '1')]", "[('Cookie', '@cookie'), ('n', '1')]"),
        ("https://h/p?token=abc&x=1", "https://h/p?token=@token&x=1"),
        ("https://h/p?X-Amz-Signature=abc&x=1", "https://h/p?X-Amz-Signature=@amz_signature&x=1"),
        ("Authorization: Bearer abc\r\nHost: x", "Authorization: @authorization\r\nHost: x"),
        ("Cookie: a=b; sid=1\nHost: x", "Cookie: @cookie\nHost: x"),
        ("curl -H 'X-Api-Key: abc' http://h", "curl -H 'X-Api-Key: @api_key' http://h"),
        ("AccountName=x;AccountKey=ab+/==;Suffix=y", "AccountName=x;AccountKey=@account_key;Suffix=y"),
        ("Data Source=x;Password=a;b;User Id=c", "Data Source=x;Password=@password;User Id=c"),
        ("mysql --password hunter2 --user bob", "mysql --password @password --user bob"),
        ("PGPASSWORD=x psql", "PGPASSWORD=@password psql"),
        ("<password>hunter2</password>", "<password>@password</password>"),
        ("os.environ['API_KEY'] = 'abc'", "os.environ['API_KEY'] = '@api_key'"),
        ("form[password]=x&y=1", "form[password]=@password&y=1"),
        ('password="cut off in the mid', 'password="@password'),
    ],
)
def test_values_of_pairs_in_a_text_are_replaced(text: str, clean_text: str) -> None:
    """Query parameters, headers, JSON in a string, connection strings and command arguments lose only the value."""
    start, _, rest = clean_text.partition("@")
    kind = rest[: len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz_"))]
    expected = f"{start}[redacted:name {kind}]{rest[len(kind) :]}"
    assert redact(text) == expected
    assert redact(expected) == expected


def test_source_lines_stay_readable() -> None:
    """In source lines of a traceback, a literal is a secret; a variable is none."""
    for line in ("connect(password=password, token=self.token)", "token: str = None", "password = read_password()"):
        assert redact(line, code=True) == line
    assert redact("connect(password='hunter2')", code=True) == "connect(password='[redacted:name password]')"


@pytest.mark.parametrize("secret", [JWT, PEM, "ghp_" + ALPHABET[:36], "4111 1111 1111 1111", "password='a b c'"])
@pytest.mark.parametrize("limit", [256, 2048])
def test_a_cut_leaves_no_part_of_a_secret(secret: str, limit: int) -> None:
    """Wherever the cut is, no part remains of a secret that is recognisable only by its end."""
    for length in [*range(limit - len(secret) - 60, limit + 2, 7), *range(limit * 2 - 200, limit * 2 + 600, 41)]:
        clean_text, was_cut = scrub_and_truncate("x " * (length // 2) + secret + " y" * limit * 2, limit)
        assert was_cut
        assert len(clean_text.encode()) <= limit
        assert not any(secret[at : at + 8] in clean_text for at in range(9, len(secret) - 8))


def test_a_redacted_value_has_no_digest() -> None:
    """SHA-256 of a short secret reveals the secret. So a redacted artifact has neither size nor digest."""
    assert to_json("hunter2").sha256
    for json_text in (to_json({"password": "hunter2"}), to_json("password=hunter2")):
        assert (json_text.size, json_text.sha256) == (None, None)
