"""Answers every request with a greeting in JSON."""

import os

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
@app.get("/<path:path>")
def greet(path=""):
    return jsonify(hello="python", path="/" + path)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
