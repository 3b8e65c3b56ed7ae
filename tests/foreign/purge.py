"""Purges in every way that a provider's own SDK knows: purge.py PROVIDER URL ID TOKEN. Ends badly when an answer is not what the SDK expects."""

import sys


def cloudflare(url, zone, token):
    from cloudflare import APIStatusError, Cloudflare

    client = Cloudflare(api_token=token, base_url=f"{url}/client/v4", max_retries=0)
    for what in (
        {"files": ["https://cdn.example/a?b=c"]},
        {"tags": ["video:1"]},
        {"prefixes": ["cdn.example/v/"]},
        {"purge_everything": True},
    ):
        answer = client.cache.purge(zone_id=zone, **what)
        assert answer is not None and answer.id, what
    try:
        Cloudflare(api_token="wrong", base_url=f"{url}/client/v4", max_retries=0).cache.purge(zone_id=zone, tags=["x"])
    except APIStatusError as error:
        assert error.status_code == 403, error
    else:
        raise AssertionError("a wrong token was taken")


def fastly(url, service, token):
    import fastly
    from fastly.api import purge_api

    def client(key):
        configuration = fastly.Configuration(host=url)
        configuration.api_token = key
        return purge_api.PurgeApi(fastly.ApiClient(configuration))

    api = client(token)
    api.purge_tag(service_id=service, surrogate_key="video:1")
    api.bulk_purge_tag(service_id=service, fastly_soft_purge=1, surrogate_key="video:2 video:3")
    assert api.purge_all(service_id=service).status == "ok"
    try:
        client("wrong").purge_all(service_id=service)
    except fastly.ApiException as error:
        assert error.status == 401, error
    else:
        raise AssertionError("a wrong token was taken")


def cloudfront(url, distribution, _):
    import time

    import aws
    from botocore.exceptions import ClientError

    client = aws.cloudfront(url)

    def create(reference, paths):
        batch = {"CallerReference": reference, "Paths": {"Quantity": len(paths), "Items": paths}}
        return client.create_invalidation(DistributionId=distribution, InvalidationBatch=batch)["Invalidation"]

    first = create("one", ["/a?b=c&d=e", "/v/*"])
    assert first["Status"] == "InProgress", first
    assert create("one", ["/a?b=c&d=e", "/v/*"])["Id"] == first["Id"], "asked again it is the same"
    while client.get_invalidation(DistributionId=distribution, Id=first["Id"])["Invalidation"]["Status"] != "Completed":
        time.sleep(0.1)
    try:
        client.get_invalidation(DistributionId=distribution, Id="another")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchInvalidation", error
    else:
        raise AssertionError("an invalidation that is not there was found")


{"cloudflare": cloudflare, "cloudfront": cloudfront, "fastly": fastly}[sys.argv[1]](*sys.argv[2:])
