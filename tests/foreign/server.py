"""A small real server that knows nothing of Keelson: OpenTelemetry's default auto-instrumentation is loaded by `opentelemetry-instrument`."""

import sqlite3

from flask import Flask
from werkzeug.serving import make_server

app = Flask(__name__)


@app.get("/videos/<int:video>")
def video(video):
    with sqlite3.connect(":memory:") as database:
        database.cursor().execute("SELECT 1")
    return {"id": video}


@app.post("/videos")
def upload():
    return "", 201


@app.get("/flaky")
def flaky():
    return {"error": "on purpose"}, 500


server = make_server("127.0.0.1", 0, app, threaded=True)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
