"""URIs: credentials in them are refused before anything is opened, and never repeated."""

import pytest

from orchestrator.errors import ConfigError
from orchestrator.loading import build_config
from orchestrator.store.files import Files
from orchestrator.store.uri import below, holds_credentials

WITH = [
    "s3://canary:canary@bucket/path",
    "s3://canary:can/ary@bucket/path",
    "s3://canary@bucket",
    "s3://bucket/path?access_key=canary&secret_key=canary",
    "s3://bucket/path?region=eu&session_token=canary",
    "gs://canary@bucket",
    "https://host/path?X-Amz-Signature=canary",
    "ray://user:canary@host:10001",
]


@pytest.mark.parametrize("uri", WITH)
def test_a_uri_with_credentials_is_refused_without_repeating_them(uri):
    assert holds_credentials(uri)
    with pytest.raises(ConfigError, match="set them in the environment") as error:
        Files(uri)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b",
        "s3://bucket/monkey?region=eu-west-1&scheme=http&endpoint_override=127.0.0.1:9000",
        "gs://anonymous@bucket/public",
        "ray://host:10001",
        "/data/user@host/key=1",
        "store?token=x",
    ],
)
def test_a_uri_without_credentials_is_not(uri):
    assert not holds_credentials(uri)


@pytest.mark.parametrize("field", ["store", "data", "placement.ray_address"])
@pytest.mark.parametrize("uri", WITH)
def test_a_config_with_credentials_is_refused_and_all_its_faults_are_told(field, uri):
    tree = {"name": "a", "data": "data", "seed": 1}
    with pytest.raises(ConfigError) as error:
        build_config(tree, [f"{field}='{uri}'"])
    assert f"{field}: holds credentials" in str(error.value)
    assert "seed: no such field" in str(error.value)
    assert "canary" not in str(error.value)


def test_a_folder_below_a_uri_keeps_the_query():
    assert below("s3://b/a/?region=x", "c") == "s3://b/a/c?region=x"
    assert below("/a", "c") == "/a/c"
