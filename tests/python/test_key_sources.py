"""Temporary keys by OIDC, federation, pod identity and agencies; logins with a passcode."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import dbss
import pytest

from test_credentials import all_text_of, sent_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mock_service import MockService

# No test connects to it successfully.
UNREACHABLE = "http://127.0.0.1:1"
# An address of a public network, which no test may connect to.
PUBLIC = "http://192.0.2.1"

OIDC = ("PROVIDER_URN", "AGENCY_URN", "ID_TOKEN", "TOKEN_FILE", "SESSION_NAME")
VARIABLES = (
    *(f"HUAWEICLOUD_OIDC_{name}" for name in OIDC),
    *(f"HUAWEICLOUD_OIDC_{name}" for name in ("DURATION_SECONDS", "POLICY", "POLICY_IDS")),
    *(f"HUAWEICLOUD_SDK_{name}" for name in ("AK", "SK", "SECURITY_TOKEN", "PROJECT_ID")),
    *(f"HUAWEICLOUD_SDK_{name}" for name in ("IDP_ID", "ID_TOKEN_FILE", "CREDENTIALS_FILE")),
    *(f"HUAWEICLOUD_SDK_{name}" for name in ("IAM_ENDPOINT", "STS_ENDPOINT")),
    "HC_CONTAINER_CREDENTIALS_FULL_URI",
    "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
CALLS = {
    "oidc": ["@sts.oidc"],
    "federation": ["@iam.id_token", "@iam.keys"],
    "pod_identity": ["@pod.key"],
    "agency": ["@iam.keys"],
}


class Place:
    """An environment with files for the sources."""

    def __init__(self, mock: MockService, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.mock = mock
        self.set = monkeypatch.setenv
        self.path = path
        self.token_file = path / "token"
        self.pod_file = path / "pod"
        self.token_file.write_text(f"{mock.id_token}\n")
        self.pod_file.write_text(f"{mock.pod_token}\r\n")

    def prepare(self, source: str) -> Path | None:
        """Configures a source; returns the file with its token."""
        if source == "oidc":
            self.set("HUAWEICLOUD_OIDC_PROVIDER_URN", self.mock.provider_urn)
            self.set("HUAWEICLOUD_OIDC_AGENCY_URN", self.mock.agency_urn)
            self.set("HUAWEICLOUD_OIDC_TOKEN_FILE", str(self.token_file))
        elif source == "federation":
            self.set("HUAWEICLOUD_SDK_IDP_ID", self.mock.idp_id)
            self.set("HUAWEICLOUD_SDK_ID_TOKEN_FILE", str(self.token_file))
        elif source == "pod_identity":
            self.set(
                "HC_CONTAINER_CREDENTIALS_FULL_URI", f"{self.mock.metadata}/v1/pod/credentials"
            )
            self.set("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(self.pod_file))
            return self.pod_file
        elif source == "environment":
            self.set("HUAWEICLOUD_SDK_AK", self.mock.access_key)
            self.set("HUAWEICLOUD_SDK_SK", self.mock.secret_key)
            return None
        return self.token_file

    def profile(self, text: str) -> None:
        file = self.path / "home" / ".huaweicloud" / "credentials"
        file.parent.mkdir()
        file.write_text(f"[basic]\n{text}")
        file.chmod(0o600)

    def client(self, credentials: str | None, **more: Any) -> dbss.Client:
        arguments: dict[str, Any] = {
            "endpoint": self.mock.http,
            "region": self.mock.region,
            "iam_endpoint": self.mock.iam,
            "sts_endpoint": self.mock.iam,
            "metadata_endpoint": self.mock.metadata,
            "max_attempts": 1,
            "credentials": credentials,
            **more,
        }
        return dbss.Client(**arguments)

    def agency(self, **more: Any) -> dict[str, Any]:
        return {
            "agency_name": self.mock.agency,
            "agency_domain": self.mock.agency_domain,
            "access_key": self.mock.access_key,
            "secret_key": self.mock.secret_key,
            **more,
        }

    def login(self, **more: Any) -> dict[str, Any]:
        return {
            "iam_user": self.mock.user,
            "iam_password": self.mock.password,
            "iam_domain": self.mock.domain,
            "iam_user_id": self.mock.user_id,
            **more,
        }

    def download(self, client: dbss.Client) -> None:
        data = client.download_report(None, self.mock.instance_id, self.mock.pdf["id"])
        assert data.startswith(b"%PDF-")


@pytest.fixture
def place(mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    mock.clear_requests()
    yield Place(mock, monkeypatch, tmp_path)
    mock.clear_faults()
    mock.set_iam()
    mock.set_metadata()


def bodies(mock: MockService, call: str) -> list[Any]:
    return [json.loads(one["body"]) for one in mock.requests(call)]


def count(mock: MockService, *calls: str) -> int:
    return sum(len(mock.requests(call)) for call in calls)


# Success.


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
@pytest.mark.parametrize("selected", ["itself", "default"])
def test_key_of_source_downloads_the_report(place: Place, source: str, selected: str) -> None:
    place.prepare(source)
    place.mock.set_metadata(agency=False)
    with place.client(source if selected == "itself" else "default") as client:
        for _ in range(2):
            place.download(client)
        found = client.find_credentials()
    assert found.source == source
    assert found.expires_at is not None
    for call in CALLS[source]:
        assert count(place.mock, call) == 1
    [_, security_token] = sent_headers(place.mock, place.mock.pdf["id"], "x-security-token")
    assert security_token


def test_oidc_request_has_all_parameters(place: Place) -> None:
    place.prepare("oidc")
    place.set("HUAWEICLOUD_OIDC_ID_TOKEN", place.mock.id_token)
    place.set("HUAWEICLOUD_OIDC_TOKEN_FILE", "/nonexistent")
    expected = {
        "provider_urn": place.mock.provider_urn,
        "agency_urn": place.mock.agency_urn,
        "agency_session_name": "oidc-sts-session",
        "id_token": place.mock.id_token,
        "duration_seconds": 3600,
    }
    with place.client("oidc") as client:
        client.find_credentials()
    assert bodies(place.mock, "@sts.oidc") == [expected]
    place.set("HUAWEICLOUD_OIDC_SESSION_NAME", "nightly")
    place.set("HUAWEICLOUD_OIDC_DURATION_SECONDS", "900")
    place.set("HUAWEICLOUD_OIDC_POLICY", '{"Version":"5.0","?":"é"}')
    place.set("HUAWEICLOUD_OIDC_POLICY_IDS", "one, two,")
    with place.client("oidc") as client:
        client.find_credentials()
    assert bodies(place.mock, "@sts.oidc")[1] == {
        **expected,
        "agency_session_name": "nightly",
        "duration_seconds": 900,
        "policy": '{"Version":"5.0","?":"é"}',
        "policy_ids": ["one", "two"],
    }


@pytest.mark.parametrize("variable", ["HUAWEICLOUD_SDK_STS_ENDPOINT", None])
def test_sts_endpoint_is_that_of_the_variable_or_the_region(
    place: Place, variable: str | None
) -> None:
    place.prepare("oidc")
    if variable is not None:
        place.set(variable, place.mock.iam)
    with place.client("oidc", sts_endpoint=None, region="xx-nowhere-1") as client:
        if variable is not None:
            assert client.find_credentials().description.endswith(f"by STS at {place.mock.iam}")
            return
        with pytest.raises(dbss.NetworkError) as caught:
            client.find_credentials()
        assert "sts.xx-nowhere-1.myhuaweicloud.com" in caught.value.message


def test_oidc_without_region_and_endpoint_is_not_configured(place: Place) -> None:
    place.prepare("oidc")
    with pytest.raises(dbss.NotConfiguredError) as caught:
        place.client("oidc", region=None, sts_endpoint=None)
    assert caught.value.parameter == "region"


def test_federation_requests_are_those_of_the_sdks(place: Place) -> None:
    place.prepare("federation")
    place.set("HUAWEICLOUD_SDK_PROJECT_ID", place.mock.project_id)
    with place.client("environment") as client:
        found = client.find_credentials()
    assert (found.source, found.project_id) == ("federation", place.mock.project_id)
    assert bodies(place.mock, "@iam.id_token") == [
        {"auth": {"id_token": {"id": place.mock.id_token}}}
    ]
    assert sent_headers(place.mock, "@iam.id_token", "x-idp-id") == [place.mock.idp_id]
    [key] = bodies(place.mock, "@iam.keys")
    assert key["auth"]["identity"]["methods"] == ["token"]
    assert key["auth"]["identity"]["token"]["duration_seconds"] == 21600


@pytest.mark.parametrize("credentials", ["federation", "profile", "default"])
def test_federation_of_profile_is_used(place: Place, credentials: str) -> None:
    place.profile(
        f"ak = a\nsk = b\nidp_id = {place.mock.idp_id}\nid_token_file = {place.token_file}\n"
        f"iam_endpoint = {place.mock.iam}\n"
    )
    with place.client(credentials, iam_endpoint=None) as client:
        place.download(client)
        assert client.find_credentials().source == "federation"


def test_pod_request_has_the_token(place: Place) -> None:
    place.prepare("pod_identity")
    with place.client("pod_identity") as client:
        client.find_credentials()
    [request] = place.mock.requests("@pod.key")
    assert (request["method"], request["body"]) == ("POST", "{}")
    assert sent_headers(place.mock, "@pod.key", "authorization") == [place.mock.pod_token]


# The order of the sources.


def test_sources_are_tried_in_the_order_of_the_sdks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in ("oidc", "federation", "environment", "pod_identity"):
        place.prepare(source)
    place.profile(f"ak = {place.mock.access_key}\nsk = {place.mock.secret_key}\n")

    def source() -> str:
        with place.client("default") as client:
            return client.find_credentials().source

    order = [source()]
    key = ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")
    federation = ("HUAWEICLOUD_SDK_IDP_ID", "HUAWEICLOUD_SDK_ID_TOKEN_FILE")
    for variables in (VARIABLES[:5], federation, key):
        for name in variables:
            monkeypatch.delenv(name, raising=False)
        order.append(source())
    (place.path / "home" / ".huaweicloud" / "credentials").unlink()
    order.append(source())
    place.mock.set_metadata(agency=False)
    order.append(source())
    assert order == ["oidc", "federation", "environment", "profile", "metadata", "pod_identity"]


def test_source_that_was_chosen_is_kept(place: Place) -> None:
    place.prepare("pod_identity")
    place.mock.set_metadata(agency=False)
    with place.client("default") as client:
        place.download(client)
        asked = count(place.mock, "@metadata.key")
        place.mock.set_metadata()
        place.mock.revoke_metadata_keys()
        place.download(client)
        assert client.find_credentials().source == "pod_identity"
    assert (asked, count(place.mock, "@metadata.key")) == (1, 1)
    assert count(place.mock, "@pod.key") == 2


def test_pod_identity_is_used_without_a_metadata_service(place: Place) -> None:
    place.prepare("pod_identity")
    with place.client("default", metadata_endpoint=UNREACHABLE) as client:
        place.download(client)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("HUAWEICLOUD_OIDC_PROVIDER_URN", "HUAWEICLOUD_OIDC_AGENCY_URN"),
        ("HUAWEICLOUD_OIDC_AGENCY_URN", "HUAWEICLOUD_OIDC_PROVIDER_URN"),
        ("HUAWEICLOUD_OIDC_TOKEN_FILE", "HUAWEICLOUD_OIDC_PROVIDER_URN"),
        ("HUAWEICLOUD_SDK_IDP_ID", "HUAWEICLOUD_SDK_ID_TOKEN_FILE"),
        ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "HUAWEICLOUD_SDK_IDP_ID"),
        ("HC_CONTAINER_CREDENTIALS_FULL_URI", "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "HC_CONTAINER_CREDENTIALS_FULL_URI"),
    ],
)
def test_incomplete_source_is_invalid(place: Place, given: str, missing: str) -> None:
    place.set(given, "https://value")
    with pytest.raises(dbss.InvalidCredentialsError) as caught:
        place.client("default")
    assert caught.value.parameter == missing
    assert given in caught.value.message


def test_key_pair_is_used_beside_half_a_federation(place: Place) -> None:
    place.prepare("environment")
    place.set("HUAWEICLOUD_SDK_IDP_ID", "idp")
    with place.client("default") as client:
        assert client.find_credentials().source == "environment"


@pytest.mark.parametrize("credentials", ["oidc", "federation", "pod_identity"])
def test_missing_source_is_not_configured(place: Place, credentials: str) -> None:
    place.prepare("environment")
    with pytest.raises(dbss.NotConfiguredError, match="none were found: H") as caught:
        place.client(credentials)
    assert caught.value.parameter == "credentials"


@pytest.mark.parametrize("duration", ["soon", "0", "-1", "1.5"])
def test_oidc_duration_that_is_no_number_is_invalid(place: Place, duration: str) -> None:
    place.prepare("oidc")
    place.set("HUAWEICLOUD_OIDC_DURATION_SECONDS", duration)
    with pytest.raises(dbss.InvalidCredentialsError) as caught:
        place.client("oidc")
    assert caught.value.parameter == "HUAWEICLOUD_OIDC_DURATION_SECONDS"


# Plain http.


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("oidc", {"sts_endpoint": PUBLIC}),
        ("federation", {"iam_endpoint": PUBLIC}),
        ("pod_identity", {}),
        ("metadata", {"metadata_endpoint": PUBLIC}),
    ],
)
def test_plain_http_to_public_host_is_refused(
    place: Place, source: str, arguments: dict[str, Any]
) -> None:
    place.prepare(source)
    place.set("HC_CONTAINER_CREDENTIALS_FULL_URI", f"{PUBLIC}/v1/pod")
    with pytest.raises(dbss.PlaintextRefusedError):
        place.client(source, **arguments)


def test_plain_http_of_pod_identity_does_not_depend_on_allow_plaintext(place: Place) -> None:
    place.prepare("pod_identity")
    place.set("HC_CONTAINER_CREDENTIALS_FULL_URI", f"{PUBLIC}/v1/pod")
    with pytest.raises(dbss.PlaintextRefusedError) as caught:
        place.client("pod_identity", allow_plaintext=True)
    assert caught.value.parameter == "HC_CONTAINER_CREDENTIALS_FULL_URI"


# Token files.


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (None, dbss.InvalidCredentialsError, "does not exist"),
        (b"", dbss.InvalidCredentialsError, "is empty"),
        (b" \r\n", dbss.InvalidCredentialsError, "is empty"),
        (b"secret-secret-secret\n secret", dbss.InvalidCredentialsError, "line feed at byte 21"),
        (b"secret-secret\xff", dbss.InvalidCredentialsError, "not ASCII"),
        (b"s" * 200_000, dbss.FileError, "larger than"),
        ("directory", dbss.FileError, "not a regular file"),
    ],
)
def test_unusable_token_file_is_named_before_any_request(
    place: Place, source: str, content: Any, kind: type[dbss.Error], words: str
) -> None:
    file = place.prepare(source)
    assert file is not None
    file.unlink()
    if content == "directory":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with place.client(source) as client, pytest.raises(kind) as caught:
        client.find_credentials()
    assert words in caught.value.message
    assert caught.value.path == file
    assert "secret" not in all_text_of(caught.value)
    assert count(place.mock, *CALLS[source]) == 0


# Refusals.


def refusing(place: Place, source: str) -> Callable[[], None]:
    """Makes a source's server refuse the token; returns what makes it accept a new one."""
    file = place.prepare(source)
    assert file is not None
    good = file.read_text()
    file.write_text("an-expired-token." * 20)
    return lambda: file.write_text(good) and None


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
def test_refused_token_is_not_sent_again(place: Place, source: str) -> None:
    renew = refusing(place, source)
    with place.client(source, max_attempts=5) as client:
        for _ in range(3):
            with pytest.raises(dbss.Error) as caught:
                place.download(client)
            assert caught.value.http_status in (400, 401)
            assert "refused the token of the file" in caught.value.message
            assert "The token is invalid or has expired" in caught.value.message.replace(
                "id token", "token"
            )
            assert "does not send the same again" in caught.value.message
            assert "an-expired-token" not in all_text_of(caught.value)
        assert count(place.mock, CALLS[source][0]) == 1
        renew()
        place.download(client)
    assert count(place.mock, CALLS[source][0]) == 2


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
def test_token_file_is_read_anew_for_the_next_key(place: Place, source: str) -> None:
    place.prepare(source)
    with place.client(source) as client:
        place.download(client)
        place.mock.set_iam(id_token="another-token-of-the-provider")
        place.token_file.write_text("another-token-of-the-provider")
        place.mock.revoke_metadata_keys()
        place.download(client)
    assert count(place.mock, CALLS[source][0]) == 2


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity", "agency"])
def test_transient_failure_is_retried(place: Place, source: str) -> None:
    arguments = {"credentials": source}
    if source == "agency":
        arguments = {"credentials": None, **place.agency()}
    place.prepare(source)
    for call in CALLS[source]:
        place.mock.fault(call, status=503, times=1)
    with place.client(max_attempts=3, **arguments) as client:
        place.download(client)
    assert count(place.mock, *CALLS[source]) == 2 * len(CALLS[source])


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity", "agency"])
@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"credential": {"access": "a"}},
        {"credential": {"access": "very secret", "secret": "very secret"}},
        {"error_code": "X", "error_msg": "no"},
    ],
)
def test_response_without_a_key_is_unexpected(
    place: Place, source: str, status: int, body: Any
) -> None:
    place.prepare(source)
    place.mock.fault(CALLS[source][-1], status=status, json=body)
    arguments = place.agency() if source == "agency" else {}
    client = place.client(None if arguments else source, **arguments)
    with client, pytest.raises(dbss.UnexpectedResponseError) as caught:
        client.find_credentials()
    assert "without a usable access key" in caught.value.message
    assert "very secret" not in all_text_of(caught.value)


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
def test_redirect_is_not_followed(place: Place, source: str) -> None:
    place.prepare(source)
    for call in CALLS[source]:
        place.mock.fault(call, status=307, headers=[["Location", f"{place.mock.http_other}/x"]])
    before = place.mock.connections().get("http_other", 0)
    client = place.client(source, follow_redirects=True)
    with client, pytest.raises(dbss.RedirectedError):
        client.find_credentials()
    assert place.mock.connections().get("http_other", 0) == before


@pytest.mark.parametrize("source", ["oidc", "federation", "pod_identity"])
def test_token_that_the_server_repeats_is_redacted(place: Place, source: str) -> None:
    place.prepare(source)
    token = place.mock.pod_token if source == "pod_identity" else place.mock.id_token
    body = {"error_code": "X.1", "error_msg": f"bad token {token}"}
    place.mock.fault(CALLS[source][0], status=401, json=body)
    records: list[str] = []
    client = place.client(source, log=lambda record: records.append(record.message))
    with client, pytest.raises(dbss.UnauthenticatedError) as caught:
        client.find_credentials()
    assert "bad token ***" in caught.value.message
    for text in (all_text_of(caught.value), *records):
        assert token[:24] not in text


# Agencies.


@pytest.mark.parametrize("account", ["name", "id"])
def test_agency_is_assumed_with_an_access_key(place: Place, account: str) -> None:
    arguments = place.agency(agency_duration=1800)
    expected = {"agency_name": place.mock.agency, "duration_seconds": 1800}
    if account == "id":
        del arguments["agency_domain"]
        arguments["agency_domain_id"] = expected["domain_id"] = place.mock.agency_domain_id
    else:
        expected["domain_name"] = place.mock.agency_domain
    with place.client(None, **arguments) as client:
        place.download(client)
        found = client.find_credentials()
    assert found.source == "agency"
    assert found.description == f"the agency {place.mock.agency}, for the access key that was set"
    assert bodies(place.mock, "@iam.keys") == [
        {"auth": {"identity": {"methods": ["assume_role"], "assume_role": expected}}}
    ]
    [signature] = sent_headers(place.mock, "@iam.keys", "authorization")
    assert signature is not None
    assert f"Access={place.mock.access_key}" in signature


@pytest.mark.parametrize("base", ["oidc", "environment", "metadata", "iam_user", "token"])
def test_agency_is_assumed_with_any_credentials(place: Place, base: str) -> None:
    place.prepare(base)
    arguments: dict[str, Any] = {"credentials": base}
    if base == "iam_user":
        arguments = {"credentials": None, **place.login(iam_user_id=None)}
        # That of the agency's account, which the user has no rights in.
        arguments["project_id"] = place.mock.project_id
    elif base == "token":
        arguments = {"credentials": None, "token": place.mock.token}
    arguments.update(place.agency(access_key=None, secret_key=None))
    with place.client(**arguments) as client:
        place.download(client)
        assert client.find_credentials().source == "agency"


def test_agency_is_assumed_anew_when_its_key_is_rejected(place: Place) -> None:
    with place.client(None, **place.agency()) as client:
        place.download(client)
        place.mock.revoke_metadata_keys()
        place.download(client)
    assert count(place.mock, "@iam.keys") == 2


@pytest.mark.parametrize(
    ("wrong", "kind", "status"),
    [
        ({"agency_name": "no-such"}, dbss.ForbiddenError, 403),
        ({"secret_key": "wrong-secret-key"}, dbss.UnauthenticatedError, 401),
    ],
)
def test_refused_agency_is_not_requested_again(
    place: Place, wrong: dict[str, str], kind: type[dbss.Error], status: int
) -> None:
    with place.client(None, **{**place.agency(), **wrong}, max_attempts=5) as client:
        for _ in range(3):
            with pytest.raises(kind) as caught:
                place.download(client)
            assert caught.value.http_status == status
            assert "IAM refused the agency" in caught.value.message
            assert "wrong-secret-key" not in all_text_of(caught.value)
    assert count(place.mock, "@iam.keys") == 1


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"agency_domain": None}, "agency_domain"),
        ({"agency_domain_id": "d"}, "agency_domain_id"),
        ({"agency_name": None}, "agency_name"),
    ],
)
def test_incomplete_agency_is_not_configured(
    place: Place, change: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(dbss.NotConfiguredError) as caught:
        place.client(None, **{**place.agency(), **change})
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("seconds", [899, 86401])
def test_agency_duration_out_of_range_is_invalid(place: Place, seconds: int) -> None:
    with pytest.raises(dbss.InvalidValueError) as caught:
        place.client(None, **place.agency(agency_duration=seconds))
    assert caught.value.parameter == "agency_duration_ms"


# Passcodes.


class Passcodes:
    """A provider that notes how it is called."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.refusals: list[bool] = []

    def __call__(self, refused: bool) -> str:
        self.refusals.append(refused)
        return self.codes.pop(0)


def test_login_sends_the_passcode(place: Place) -> None:
    place.mock.set_iam(passcodes=["123456"])
    passcodes = Passcodes("123456")
    with place.client(None, **place.login(passcode_provider=passcodes)) as client:
        for _ in range(2):
            place.download(client)
        assert client.find_credentials().source == "iam_user"
    assert passcodes.refusals == [False]
    [body] = bodies(place.mock, "@iam.tokens")
    identity = body["auth"]["identity"]
    assert identity["methods"] == ["password", "totp"]
    assert identity["totp"] == {"user": {"id": place.mock.user_id, "passcode": "123456"}}


def test_each_login_asks_for_a_passcode(place: Place) -> None:
    place.mock.set_iam(passcodes=["111111", "222222"])
    passcodes = Passcodes("111111", "222222")
    with place.client(None, **place.login(passcode_provider=passcodes)) as client:
        place.download(client)
        place.mock.revoke_issued_tokens()
        place.download(client)
    assert passcodes.refusals == [False, False]


def test_wrong_passcode_is_sent_once_and_not_shown(place: Place) -> None:
    place.mock.set_iam(passcodes=["222222"])
    passcodes = Passcodes("987654", "222222")
    arguments = place.login(passcode_provider=passcodes)
    with place.client(None, **arguments, max_attempts=5) as client:
        with pytest.raises(dbss.UnauthenticatedError) as caught:
            place.download(client)
        assert "The passcode *** is wrong" in caught.value.message
        assert "987654" not in all_text_of(caught.value)
        assert count(place.mock, "@iam.tokens") == 1
        place.download(client)
    assert passcodes.refusals == [False, True]


@pytest.mark.parametrize("fault", [{"status": 503}, {"close_before_answer": True}])
def test_passcode_is_not_sent_again_after_a_failure(place: Place, fault: dict[str, Any]) -> None:
    place.mock.fault("@iam.tokens", **fault)
    arguments = place.login(passcode_provider=Passcodes("123456"))
    with place.client(None, **arguments, max_attempts=5) as client, pytest.raises(dbss.Error):
        place.download(client)
    assert count(place.mock, "@iam.tokens") == 1


def test_calls_share_the_login_with_a_passcode(place: Place) -> None:
    place.mock.set_iam(passcodes=["123456"])
    passcodes = Passcodes("123456")
    with place.client(None, **place.login(passcode_provider=passcodes)) as client:
        threads = [threading.Thread(target=place.download, args=(client,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert passcodes.refusals == [False]


def test_exception_of_passcode_provider_is_the_cause(place: Place) -> None:
    error = RuntimeError("the device is at home")

    def provider(refused: bool) -> str:
        raise error

    client = place.client(None, **place.login(passcode_provider=provider))
    with client, pytest.raises(dbss.NoTokenError) as caught:
        place.download(client)
    assert "the passcode provider failed: RuntimeError: the device is at home" in (
        caught.value.message
    )
    assert caught.value.__cause__ is error
    assert count(place.mock, "@iam.tokens") == 0


@pytest.mark.parametrize("change", [{"iam_user_id": None}, {"passcode_provider": None}])
def test_half_a_passcode_login_is_not_configured(place: Place, change: dict[str, Any]) -> None:
    arguments = {**place.login(passcode_provider=Passcodes("1")), **change}
    with pytest.raises(dbss.NotConfiguredError) as caught:
        place.client(None, **arguments)
    assert caught.value.parameter == "iam_user_id"


# The metadata service.


@pytest.mark.parametrize("status", [404, 405, 503])
def test_metadata_service_without_session_tokens_gives_a_key(place: Place, status: int) -> None:
    place.mock.set_metadata(require_token=False)
    place.mock.fault("@metadata.token", status=status)
    with place.client("metadata") as client:
        place.download(client)


def test_metadata_session_lasts_as_in_the_sdks(place: Place) -> None:
    with place.client("metadata") as client:
        client.find_credentials()
    assert sent_headers(place.mock, "@metadata.token", "x-metadata-token-ttl-seconds") == ["21600"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, "Please configure Cloud Service Agency first"), (404, "")],
)
def test_instance_without_agency_is_told(place: Place, status: int, body: str) -> None:
    place.mock.fault("@metadata.key", status=status, body=body)
    with place.client("metadata") as client, pytest.raises(dbss.NotConfiguredError) as caught:
        client.find_credentials()
    assert "this instance has no agency" in caught.value.message
