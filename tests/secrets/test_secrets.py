"""Secrets: found by name and by form, replaced by a mark that says which rule, in everything that leaves a process."""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import command, run
from receiver import Sink, attributes_of

from otelflow import FlowRunConfig, configure, flow, flow_events, stats, task
from otelflow import attributes as wire
from otelflow._secrets.detect import without_secrets
from otelflow._secrets.names import secret_in_name
from otelflow._values.scrub import clean, use_callback
from otelflow._values.text import attribute, cut, to_json
from otelflow.errors import ArgumentError, ConfigError
from otelflow.testing import Capture

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34\nGkxFhD90vcNLYLInFEX6\n-----END RSA PRIVATE KEY-----"
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
def test_names_of_secrets(name: str) -> None:
    """In any spelling: what is called so is replaced whole, on a span and in JSON."""
    assert secret_in_name(name)
    assert attribute(name, "x y z")[0] == f"[redacted:name {secret_in_name(name)}]"
    assert json.loads(to_json({"deep": [{name: "x y z"}]}).text)["deep"][0][name].startswith("[redacted:name ")


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_names_that_only_look_like_it(name: str) -> None:
    """What is about a secret, or has its letters, stays."""
    assert attribute(name, "x y z")[0] == "x y z"
    assert json.loads(to_json({name: 5}).text) == {name: 5}


@pytest.mark.parametrize("value", [True, False, None, "", "***", "[redacted:jwt]"])
def test_what_tells_no_secret_stays(value: Any) -> None:
    """Whether there is a password may be known, and what is hidden already is not marked again."""
    assert json.loads(to_json({"password": value}).text) == {"password": value}


@pytest.mark.parametrize("value", ["hunter2", 12345, 1.5, b"hunter2", ["hunter2"], {"a": "hunter2"}, object()])
def test_a_value_of_any_kind_is_replaced_by_its_name(value: Any) -> None:
    """Numbers, lists and objects, too: as an attribute, in JSON, and as a pair of name and value."""
    mark = "[redacted:name password]"
    assert attribute("password", value) == (mark, False)
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
def test_forms_of_secrets(secret: str, rule: str) -> None:
    """Wherever they stand: alone, in a sentence, in JSON, behind an escaped line end."""
    mark = f"[redacted:{rule}]"
    for before, behind in (("", ""), ("see ", " there"), ('{"a": "', '"}'), ("a\\n", "\\n"), ("(", ")"), ("", ".")):
        assert without_secrets(f"{before}{secret}{behind}") == f"{before}{mark}{behind}"
    assert attribute("value", secret)[0] == mark
    assert attribute("values", ["a", secret])[0] == ("a", mark)


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
def test_forms_with_something_around(text: str, clean_text: str) -> None:
    """The user of a URL, and what kind of credential it was, may be seen."""
    assert without_secrets(text) == clean_text


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
    """Times, ids, digests, sentences about secrets, placeholders."""
    assert without_secrets(text) == text


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
def test_pairs_within_a_text(text: str, clean_text: str) -> None:
    """Query parameters, headers, JSON in a string, connection strings, arguments of commands: the value goes."""
    start, _, rest = clean_text.partition("@")
    kind = rest[: len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz_"))]
    expected = f"{start}[redacted:name {kind}]{rest[len(kind) :]}"
    assert without_secrets(text) == expected
    assert without_secrets(expected) == expected


def test_source_lines_stay_readable() -> None:
    """In a traceback's lines of source a literal is a secret; a variable is none."""
    for line in ("connect(password=password, token=self.token)", "token: str = None", "password = read_password()"):
        assert without_secrets(line, code=True) == line
    assert without_secrets("connect(password='hunter2')", code=True) == "connect(password='[redacted:name password]')"


@pytest.mark.parametrize("secret", [JWT, PEM, "ghp_" + ALPHABET[:36], "4111 1111 1111 1111", "password='a b c'"])
@pytest.mark.parametrize("limit", [256, 2048])
def test_a_cut_leaves_no_first_half(secret: str, limit: int) -> None:
    """Wherever the cut goes through: what is kept has no part of the secret that could be known by its end only."""
    for length in [*range(limit - len(secret) - 60, limit + 2, 7), *range(limit * 2 - 200, limit * 2 + 600, 41)]:
        kept, was_cut = cut("x " * (length // 2) + secret + " y" * limit * 2, limit)
        assert was_cut
        assert len(kept.encode()) <= limit
        assert not any(secret[at : at + 8] in kept for at in range(9, len(secret) - 8))


def test_a_digest_of_a_secret_is_not_told() -> None:
    """SHA-256 of a short secret is as good as the secret: an artifact that had one has no size and no digest."""
    assert to_json("hunter2").sha256
    for shown in (to_json({"password": "hunter2"}), to_json("password=hunter2")):
        assert (shown.size, shown.sha256) == (None, None)


# --- where texts come from --------------------------------------------------------------------------------------------


def everything(run: Any) -> str:
    """All that a span says."""
    span = run.span
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return repr((span.name, dict(span.attributes or {}), events, span.status.description))


CANARY = "canary-0d9f2c"


@task(attributes={"db.password": CANARY, "dsn": f"postgres://me:{CANARY}@db"})
def tells(password: str, this_task: Any = None) -> None:
    this_task.log_info(f"token={CANARY}", api_key=CANARY, body={"deep": [{"secret": CANARY}]})
    this_task.add_artifact(f"password={CANARY}", f"token={CANARY}", {"password": CANARY, "ok": 1}, f"pwd={CANARY}")
    this_task.add_result(f"token={CANARY}", f"password={CANARY}")
    print(f"Authorization: Bearer {CANARY}")
    local = ValueError(f"cannot log in with password={CANARY}")
    local.__cause__ = KeyError(f"secret={CANARY}")
    raise local


@flow(name=f"night token={CANARY}")
def night() -> None:
    tells(CANARY)


def test_nothing_of_a_run_has_the_secret(captured: Capture) -> None:
    """Names, attributes, messages, artifacts, results, exceptions, printed lines: on spans, in history, in memory."""
    heard: list[Any] = []
    with flow_events.listen(heard.append):
        run_ = night()
        run_.flow_config = FlowRunConfig(raise_flow_error=False)
        run_.execute()
    for made in (*captured.flows, *captured.tasks):
        assert CANARY not in everything(made)
    spoken = captured.tasks[0]
    assert spoken.attributes["db.password"] == "[redacted:name password]"
    assert spoken.attributes["dsn"] == "postgres://me:[redacted:url password]@db"
    assert run_.messages[0] == "token=[redacted:name token]"
    assert CANARY not in json.dumps(run_.to_dict())
    assert CANARY not in repr(run_) + repr(run_.tasks) + repr(run_.messages) + repr(run_.results)
    assert CANARY not in repr([(event, event.event_data) for event in flow_events.history()])
    said = [event.event_data.data["message_data"] for event in heard if "message_data" in event.event_data.data]
    assert CANARY not in repr(said)
    # What is the user's own object stays what it is.
    assert run_.artifacts[0].data == {"password": CANARY, "ok": 1}
    assert CANARY in str(run_.tasks[0].error)


def test_what_was_redacted_is_counted(captured: Capture) -> None:
    """In stats() and on the span; a span without secrets has no such attribute."""
    before = stats().dropped.get("values_redacted", 0)

    @task
    def says(text: str, this_task: Any = None) -> None:
        this_task.log_info(text, note="password=hunter2")

    @flow
    def both() -> None:
        says("token=abc")

    @flow
    def none(this_flow: Any = None) -> None:
        this_flow.log_info("nothing", n=1)

    both().execute()
    none().execute()
    assert captured.tasks[0].attributes[wire.REDACTED] == 2
    assert all(wire.REDACTED not in made.attributes for made in captured.flows)
    assert stats().dropped["values_redacted"] == before + 2


def test_an_artifact_or_result_under_such_a_key(captured: Capture) -> None:
    """The key is a name as well: what it holds is replaced on the span, and stays what it is on the Flow object."""

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("made", "api_token", "hunter2")
        this_flow.add_flow_result("password", "hunter2")

    run_ = makes().execute()
    assert "hunter2" not in everything(captured.flows[0]) + json.dumps(run_.to_dict())
    assert run_.artifacts["api_token"].data == "hunter2"


def test_what_the_artifact_store_keeps_has_none(tmp_path: Path) -> None:
    """A large artifact is stored whole, and clean: as JSON, as text, a private key in the middle of 1 MB too."""
    source = f"""
@flow
def makes(this_flow=None):
    this_flow.add_flow_artifact("d", "rows", {{"rows": [{{"n": n, "password": {CANARY!r}}} for n in range(9000)]}})
    body = ("word " * 100_000) + {PEM.replace("MIIBOgIBAAJBAKj34", "MII" + CANARY)!r} + (" token={CANARY}" * 20_000)
    this_flow.add_flow_artifact("d", "log", body)
configure(exporters=[])
makes().execute()
say(dropped=stats().dropped)
"""
    done = run(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri(), OTELFLOW_ARTIFACT_STORE_MILLIS="30000")
    assert done.returncode == 0, done.stderr
    stored = [path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()]
    assert len(stored) == 2, (done.said, done.stderr)
    assert CANARY not in "".join(stored)
    assert sum("[redacted:private key]" in text for text in stored) == 1
    assert sum("[redacted:name password]" in text for text in stored) == 1


def test_the_terminal_gets_what_was_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Printed lines pass through as they are; only the message that is made of them is cleaned."""

    @flow
    def prints() -> None:
        print("password=hunter2")

    assert prints().execute().messages == ["password=[redacted:name password]"]
    assert capfd.readouterr().out == "password=hunter2\n"


def test_a_stack_trace_that_we_print_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    """print_error_stack_trace, and messages on the console: they end in a log file."""

    @flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True, log_to_console=True))
    def fails() -> None:
        raise ValueError("password=" + "hunter2")

    fails().execute()
    printed = capsys.readouterr()
    assert "ValueError: password=[redacted:name password]" in printed.err
    assert "hunter2" not in printed.out


# --- our own log and errors -------------------------------------------------------------------------------------------


def test_our_log_has_none(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a line nor in the traceback of a listener's error."""

    def listener(event: Any) -> None:
        raise RuntimeError("password=" + "hunter2")

    @flow
    def quiet() -> None:
        pass

    with flow_events.listen(listener):
        quiet().execute()
    logging.getLogger("otelflow").warning("endpoint %s", "http://me:hunter2@h")
    assert "http://me:[redacted:url password]@h" in caplog.text
    assert "RuntimeError: password=[redacted:name password]" in caplog.text
    assert "hunter2" not in caplog.text.replace('"hunter2"', "")  # the line of source that raises


def test_our_errors_have_none() -> None:
    """A setting with credentials that cannot be used is named without them."""
    error = ConfigError("The OTLP endpoint 'ftp://me:hunter2@h' is no URL.", setting="OTEL_EXPORTER_OTLP_ENDPOINT")
    assert str(error) == "The OTLP endpoint 'ftp://me:[redacted:url password]@h' is no URL."
    assert error.setting == "OTEL_EXPORTER_OTLP_ENDPOINT"


PROGRAM = f"""
from opentelemetry import baggage, context
from otelflow import FlowRunConfig
CANARY = {CANARY!r}
context.attach(baggage.set_baggage("user.token", CANARY))

class Odd(Exception):
    pass

@task(attributes={{"password": CANARY}})
def load(password, this_task=None):
    this_task.log_info("connect with token=" + CANARY)
    this_task.add_artifact("d", "k", {{"a": [{{"api_key": CANARY}}]}})
    print("secret: " + CANARY)
    raise Odd("bad password=" + CANARY)

@flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True, log_to_console=True))
def nightly():
    load(CANARY)
    return {{"password": CANARY}}

def listener(event):
    raise Odd("api_key=" + CANARY)

flow_events.listen(listener)
configure(service_name="shop")
done = nightly().execute()
say(flow=done.to_dict(), history=repr([(event, event.event_data) for event in flow_events.history()]))
print("REPORT", bool(flush(20)), stats().dropped, file=sys.stderr)
"""


def test_nothing_that_leaves_a_process_has_the_secret(sink: Sink, tmp_path: Path) -> None:
    """A canary in endpoint, headers, baggage, arguments, exceptions, values: not on the wire, in a log or a file."""
    host = sink.endpoint.removeprefix("http://")
    done = run(
        PROGRAM,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://me:{CANARY}@{host}",
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{CANARY},x-team={CANARY}-2",
        OTEL_TRACES_EXPORTER="otlp,otelflow_jsonfile,otelflow_tree",
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "run.jsonl"),
        OTEL_METRICS_EXPORTER="none",
    )
    assert "REPORT True" in done.stderr, done.stderr
    spans = sink.wait_for(2)
    assert len(spans) == 2
    assert CANARY not in repr(spans)
    assert sum(attributes_of(span).get(wire.REDACTED, 0) for span, _, _ in spans) >= 4
    assert CANARY not in done.stderr
    # Its own print() reaches the terminal as it is, and nothing else does.
    assert done.stdout.replace(f"secret: {CANARY}\n", "", 1).count(CANARY) == 0
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "nightly" in files
    assert CANARY not in files
    shown = command("show", str(tmp_path / "run.jsonl"), "--html", str(tmp_path / "run.html"))
    assert shown.returncode == 0, shown.stderr
    assert CANARY not in (tmp_path / "run.html").read_text() + shown.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{CANARY}@127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:9/?api_key={CANARY}"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"ftp://me:{CANARY}@h"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{CANARY}@127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {CANARY}\x01,=,nonsense"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization: {CANARY}"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"x-team={CANARY}%0A"},
    ],
)
def test_a_wrong_setting_is_reported_without_its_secret(environment: dict[str, str]) -> None:
    """Refused, unreachable, malformed: what is said of it has no credentials. Nor has what otelflow doctor says."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTELFLOW_EXIT_SECONDS": "0.2", **environment}
    done = run("configure()\nwork().execute()\nflush(1)", **given)
    assert CANARY not in done.stdout + done.stderr
    doctor = command("doctor", **given)
    assert CANARY not in doctor.stdout + doctor.stderr


# --- baggage ----------------------------------------------------------------------------------------------------------

BAGGAGE = """
from otelflow import propagate
spans = []
from otelflow.testing import capture
carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": sys.argv[1]} \
    if len(sys.argv) > 1 else {"baggage": os.environ["HEADER"]}
with capture() as captured:
    with propagate.attached(carrier):
        work(1).execute()
say(attributes=dict(captured.flows[0].attributes), task=dict(captured.tasks[0].attributes))
"""


@pytest.mark.parametrize(
    ("header", "allowed", "expected"),
    [
        ("tenant=acme,user.password=hunter2", "", {}),
        ("tenant=acme,user.password=hunter2", "tenant", {"tenant": "acme"}),
        ("tenant=acme", "Tenant , other", {}),
        ("tenant=token%3Dhunter2", "tenant", {"tenant": "token=[redacted:name token]"}),
        ("user.password=hunter2", "user.password", {"user.password": "[redacted:name password]"}),
        ("otelflow.kind=evil,code.function.name=evil", "otelflow.kind,code.function.name", {"otelflow.kind": "flow"}),
        (f"tenant={'x' * 4000}", "tenant", {"tenant": "cut"}),
        ("tenant=a%00%0A,,=,tenant;p=q," + "k=v," * 500, "tenant", {"tenant": "a\x00"}),
    ],
)
def test_incoming_baggage_is_copied_by_name_only(header: str, allowed: str, expected: dict[str, str]) -> None:
    """Nothing by default; an allowed key is cut and cleaned, and cannot replace what otelflow says."""
    done = run(BAGGAGE, HEADER=header, OTELFLOW_BAGGAGE_ATTRIBUTES=allowed)
    assert done.returncode == 0, done.stderr
    attributes = done.said["attributes"]
    for key, value in expected.items():
        assert (attributes[key] == value) or (value == "cut" and len(attributes[key].encode()) <= 2048)
    assert "hunter2" not in json.dumps(done.said)
    assert "evil" not in json.dumps(done.said)
    if not expected:
        assert "acme" not in json.dumps(done.said)
    assert not any(key in done.said["task"] for key in expected if not key.startswith(("otelflow.", "code.")))


# --- own rules --------------------------------------------------------------------------------------------------------

OWN = """
from otelflow.testing import capture

def attributes(**given):
    with capture() as captured:
        @task(attributes=given)
        def once():
            pass
        once()
    return {name: captured.tasks[0].attributes[name] for name in given}
"""


def own(source: str, **environment: str) -> Any:
    done = run(OWN + source, **environment)
    assert done.returncode == 0, done.stderr
    return done


def test_own_names_and_allowed_names() -> None:
    """OTELFLOW_SCRUB_NAMES and OTELFLOW_SCRUB_ALLOW, in any spelling."""
    done = own(
        "say(**attributes(patientId='a', text='iban: DE12, x', order_id='4111111111111111', id_token='b', token='c'))",
        OTELFLOW_SCRUB_NAMES="patient_id, iban",
        OTELFLOW_SCRUB_ALLOW="order_id,id_token",
    )
    assert done.said == {
        "patientId": "[redacted:name patient_id]",
        "text": "iban: [redacted:name iban], x",
        "order_id": "4111111111111111",
        "id_token": "b",
        "token": "[redacted:name token]",
    }


def test_own_patterns() -> None:
    """A wrong one is logged, and left out; the others hold, on the part of a text that is kept."""
    done = own(
        "say(**attributes(text='mail bob@example.org or ACME-1234', long='x ' * 1500 + 'ACME-1234'))",
        OTELFLOW_SCRUB_PATTERNS=r"[\w.]+@[\w.]+ ( ACME-\d+",
    )
    assert done.said["text"] == "mail [redacted:pattern 1] or [redacted:pattern 3]"
    assert "ACME-1234" not in done.said["long"]
    assert "Pattern 2 of OTELFLOW_SCRUB_PATTERNS is left out" in done.stderr


def test_a_slow_pattern_is_switched_off() -> None:
    """It cannot be stopped while it runs: it is given 2 kB at most, and only until it took too long once."""
    done = own(
        "say(**attributes(text='a' * 24 + 'b'))\nsay(again=attributes(text='a' * 24 + 'b'), dropped=stats().dropped)",
        OTELFLOW_SCRUB_PATTERNS="(a+)+$",
    )
    assert done.said["dropped"]["scrub_patterns_off"] == 1
    assert "pattern 1 of OTELFLOW_SCRUB_PATTERNS took more than 0.05 s" in done.stderr


def test_switched_off() -> None:
    """OTELFLOW_SCRUB=false leaves everything as it is; our own log stays clean. What it is not is said, and ignored."""
    assert own("say(**attributes(password='x'))", OTELFLOW_SCRUB="false").said == {"password": "x"}
    done = own("say(**attributes(password='x'))", OTELFLOW_SCRUB="maybe")
    assert done.said == {"password": "[redacted:name password]"}
    assert "OTELFLOW_SCRUB is 'maybe'" in done.stderr


@pytest.fixture
def callback() -> Any:
    yield use_callback
    use_callback(None)


def test_a_callback_decides(callback: Any) -> None:
    """It hears of each secret with its rule, and of what is left with none; None is what would stand there anyway."""
    asked: list[tuple[str, str, str]] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        asked.append((name, text, rule))
        if rule == "name token":
            return "<token>"
        return text.replace("Bob", "<name>") if not rule else None

    callback(scrub)
    assert clean("Bob has token=abc and password=x") == "<name> has token=<token> and password=[redacted:name password]"
    assert attribute("pin", "Bob")[0] == "<name>"
    assert asked == [
        ("token", "abc", "name token"),
        ("password", "x", "name password"),
        ("", "Bob has token=<token> and password=[redacted:name password]", ""),
        ("pin", "Bob", ""),
    ]


def test_a_callback_that_raises(callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The default holds; it is logged once, without what it was asked about."""

    def scrub(name: str, text: str, rule: str) -> str | None:
        raise RuntimeError(text)

    callback(scrub)
    for _ in range(3):
        assert clean("password=hunter2") == "password=[redacted:name password]"
    assert caplog.text.count("raised RuntimeError") == 1
    assert "hunter2" not in caplog.text


def test_a_callback_sees_no_more_than_is_kept(callback: Any) -> None:
    """2,048 characters at once, never 10 MB; and what it says itself is not shown to it again."""
    lengths: list[int] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        lengths.append(len(text))
        assert clean("password=x") == "password=[redacted:name password]"
        return None

    callback(scrub)
    attribute("text", "some words " * 1_000_000)
    attribute("password", "x" * 1_000_000)
    assert max(lengths) <= 2048
    assert sum(lengths) < 10_000


def test_configure_takes_the_callback() -> None:
    """configure(scrub=...); what cannot be called is an error."""
    source = "configure(exporters=[], scrub=lambda name, text, rule: 'gone' if rule else None)"
    assert own(source + "\nsay(**attributes(password='x'))").said == {"password": "gone"}
    with pytest.raises(ArgumentError, match="scrub=3"):
        configure(scrub=3)  # type: ignore[arg-type]


# --- time -------------------------------------------------------------------------------------------------------------

MB = 1_000_000
HOSTILE = [
    "a", " ", "=", ":", '"', "\\", "\\\"", "password", "password=", "password=,a=", "password: ", "token='", "token=(",
    "token={", "cookie: a", "authorization: ", "authorization: Bearer ", "--token ", "<token>", "('token', ", "eyJ",
    "-eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaa-", "sk-", "sk-a", "ghp_", "://", "://a:", "://a:b", "key=[", "ya29.", "xox",
    "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN ", "4", "4 ", "4111 ", "41111111111111111", "SG.", "Q~", "9Q~",
    ":AA", "basic ", "Bearer ",
    "[redacted:", "[redacted:name password]=", "é=", "İ=token", "\x1b[0m", "\ud800",
]  # fmt: skip


def test_hostile_texts_of_1_mb_take_linear_time() -> None:
    """Texts that repeat what a rule begins with, 1 MB each, in a process that gets 120 s of CPU: with a quadratic rule
    it would take hours."""
    source = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
from otelflow._secrets.detect import without_secrets
for part in {HOSTILE!r}:
    text = (part * ({MB} // len(part) + 1))[:{MB}]
    without_secrets(text)
    without_secrets(text, code=True)
say(done=True)
"""
    assert run(
        source, head="import json\ndef say(**facts): print('SAID ' + json.dumps(facts))\n", timeout=300
    ).said == {"done": True}
    assert resource.getrlimit(resource.RLIMIT_CPU) != (120, 120)


def test_only_what_is_kept_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a value of 10 MB, a few kB."""
    searched: list[int] = []
    module = sys.modules["otelflow._values.scrub"]

    def counting(text: str, *rest: Any) -> str:
        searched.append(len(text))
        return without_secrets(text, *rest)

    monkeypatch.setattr(module, "without_secrets", counting)
    attribute("text", "password=x " * 1_000_000)
    attribute("text", {"rows": ["password=x " * 1000] * 10_000})
    assert sum(searched) < 100_000
