"""MongoDB seen by pymongo alone: `mongo.py init|fill|hash URI`, `mongo.py decode FOLDER`. What is found is printed as JSON."""

import hashlib
import json
import sys
import time
from pathlib import Path

import bson
import pymongo
from bson.json_util import CANONICAL_JSON_OPTIONS, loads


def init(uri):
    """Makes a replica set of one and waits until it can be written."""
    client = pymongo.MongoClient(uri)
    host = "%s:%d" % client.address
    client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
    while not client.admin.command("hello")["isWritablePrimary"]:
        time.sleep(0.05)


def fill(uri):
    """Some documents, indexes and a view."""
    click = pymongo.MongoClient(uri).click
    click.videos.insert_many({"_id": n, "title": f"Film {n}", "tags": ["a", "b"]} for n in range(2000))
    click.videos.create_index([("title", 1), ("_id", -1)], name="by_title")
    click["with/slash"].insert_one({"_id": "ü"})
    click.create_collection("some", viewOn="videos", pipeline=[{"$match": {"_id": {"$lt": 10}}}])


def hashes(uri):
    """The hash of every collection."""
    return pymongo.MongoClient(uri).click.command("dbHash")["collections"]


def decode(folder):
    """Every file of a dump: documents and MD5 of each .bson, indexes of each .metadata.json, and whether the oplog is in order."""
    root, found = Path(folder), {}
    for path in sorted(root.rglob("*.bson")):
        documents = bson.decode_all(path.read_bytes())
        found[str(path.relative_to(root))] = {
            "documents": len(documents),
            "md5": hashlib.md5(path.read_bytes()).hexdigest(),
        }
    for path in sorted(root.rglob("*.metadata.json")):
        metadata = loads(path.read_text(), json_options=CANONICAL_JSON_OPTIONS)
        found[str(path.relative_to(root))] = {
            "collection": metadata["collectionName"],
            "indexes": [index["name"] for index in metadata["indexes"]],
        }
    oplog = [entry["ts"] for entry in bson.decode_all((root / "oplog.bson").read_bytes())]
    found["oplog is in order"] = oplog == sorted(set(oplog)) and len(oplog) > 0
    return found


if __name__ == "__main__":
    command = {"init": init, "fill": fill, "hash": hashes, "decode": decode}[sys.argv[1]]
    print(json.dumps(command(sys.argv[2])))
