"""CloudFront through AWS's own SDK for Python: aws.py URL makes a distribution and prints its id; aws.py URL ID prints the paths of its invalidations, a line each."""

import sys


def cloudfront(url):
    import boto3

    return boto3.client(
        "cloudfront",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


CUSTOM = {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}


def distribution(client):
    origin = {"Id": "o", "DomainName": "origin.example", "CustomOriginConfig": CUSTOM}
    config = {
        "CallerReference": "tests",
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": {"TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all"},
        "Comment": "",
        "Enabled": True,
    }
    return client.create_distribution(DistributionConfig=config)["Distribution"]["Id"]


def paths(client, distribution):
    listed = client.list_invalidations(DistributionId=distribution)["InvalidationList"].get("Items", [])
    for one in listed:
        found = client.get_invalidation(DistributionId=distribution, Id=one["Id"])["Invalidation"]
        yield from found["InvalidationBatch"]["Paths"]["Items"]


if __name__ == "__main__":
    client = cloudfront(sys.argv[1])
    if len(sys.argv) == 2:
        print(distribution(client))
    else:
        print("\n".join(paths(client, sys.argv[2])))
