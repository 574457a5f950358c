"""A server that cannot be brought down by a request: sizes, kinds, depth, time, a queue, errors without paths."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
import uvicorn
from mlflow.exceptions import MlflowException

from lab.deploy.serve.app import Limits, application, client_text
from lab.tracking.models.serving import Refused, Served


class Model:
    """Answers each patient with its keys, and does what a patient's `do` asks."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0

    def predict(self, data: list[dict[str, Any]], params: Any = None) -> list[Any]:
        self.asked += 1
        (first, *_) = data
        match first.get("do"):
            case "wait":
                self.gate.wait(20)
            case "break":
                raise KeyError("/home/secret/model.py")
            case "refuse":
                raise Refused(400, "T1: /data/scans/one.nii.gz is no scan")
            case "enforce":
                raise MlflowException(f"data '{data}' Error: see /opt/venv/lib/x.py", 1000)
            case "value":
                raise ValueError("1 of the 3 features is missing")
            case "memory":
                raise MemoryError
        return [sorted(patient) for patient in data]


class Running:
    """The application on a port of its own."""

    def __init__(self, **limits: int) -> None:
        self.model, metadata = Model(), mlflow.models.Model()
        metadata._is_signature_from_type_hint = lambda: True  # type: ignore[method-assign]
        self.served = Served(metadata, self.model)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        app = application(self.served, Limits(**limits))  # type: ignore[arg-type]
        self.queue = app.routes[-1].endpoint.__self__  # type: ignore[attr-defined]
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ask(self, body: Any, headers: dict[str, str] | None = None, path: str = "/invocations") -> tuple[int, str]:
        """Status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("POST", path, data, {"Content-Type": "application/json"} | (headers or {}))
        answer = link.getresponse()
        return answer.status, answer.read().decode()

    def stop(self) -> None:
        self.model.gate.set()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    started = Running(body_mb=1, patients=3, waiting=1)
    yield started
    started.stop()


def test_what_is_right_is_answered(running):
    status, text = running.ask({"inputs": [{"T1": "a", "T2": "b"}, {"T1": "c"}]})
    assert (status, json.loads(text)) == (200, {"predictions": [["T1", "T2"], ["T1"]]})


DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
WRONG = {
    "large": (b'{"inputs": [{"T1": "' + b"a" * (1 << 20) + b'"}]}', {}, 413, "larger than 1 MiB"),
    "many objects": (b'{"inputs": [' + b"[]," * 340_000 + b"[]]}", {}, 400, "has 340001 patients"),
    "csv": (b"a,b\n1,2\n", {"Content-Type": "text/csv"}, 415, "send application/json in UTF-8"),
    "parquet": (b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 415, "send application/json"),
    "no kind": (b"{}", {"Content-Type": ""}, 415, "send application/json"),
    "latin": (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "in UTF-8"),
    "compressed": (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "without content-encoding"),
    "deep": (DEEP, {}, 400, "nested too deeply"),
    "no JSON": (b"{not json", {}, 400, "no valid JSON"),
    "no UTF-8": (b'{"inputs": ["\xff"]}', {}, 400, "no valid JSON"),
    "empty": (b"", {}, 400, "no valid JSON"),
    "a number without end": (b'{"inputs": [' + b"9" * 10_000 + b"]}", {}, 400, "no valid JSON"),
    "a list": (b"[1]", {}, 400, "must be an object with one of inputs"),
    "both": ({"inputs": [], "instances": []}, {}, 400, "must be an object with one of inputs"),
    "no list": ({"inputs": {"T1": 1}}, {}, 400, "Expected list of patients, found dict"),
    "a split without data": ({"dataframe_split": {"columns": []}}, {}, 400, "must hold a list"),
    "many patients": ({"inputs": [{}] * 4}, {}, 400, "has 4 patients; at most 3"),
    "our refusal": ({"inputs": [{"do": "refuse"}]}, {}, 400, "is no scan"),
    "MLflow's": ({"inputs": [{"do": "enforce"}]}, {}, 400, "see ..."),
    "our fault": ({"inputs": [{"do": "break"}]}, {}, 500, "the server failed; its log says why"),
    "memory": ({"inputs": [{"do": "memory"}]}, {}, 503, "too little memory"),
    "a value": ({"inputs": [{"do": "value"}]}, {}, 400, "features is missing"),
}


MODELS = ("is no scan", "see ...", "the server failed; its log says why", "too little memory", "features is missing")
"""What the model itself says."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_a_sentence_without_paths(name, running):
    body, headers, status, said = WRONG[name]
    before = running.model.asked
    found, text = running.ask(body, headers)
    answer = json.loads(text)
    assert (found, set(answer)) == (status, {"error_code", "message"})
    assert said in answer["message"]
    assert len(text) < 800
    for secret in ("secret", "Traceback", "/opt", "site-packages"):
        assert secret not in text
    assert running.model.asked - before == isinstance(body, dict) * (said in MODELS)


def test_one_who_never_stops_sending_is_turned_away(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        link.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + b" " * (1 << 20) + b" ")
        assert link.recv(100).startswith(b"HTTP/1.1 413")


def test_one_who_never_goes_on_is_turned_away():
    hasty = Running(sending_seconds=1)
    try:
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=60) as link:
            head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            link.sendall(head + b"Content-Length: 9\r\n\r\n{")
            assert link.recv(100).startswith(b"HTTP/1.1 408")
    finally:
        hasty.stop()


def test_who_finds_the_queue_full_is_told_at_once_and_the_others_are_answered():
    full = Running(waiting=1)
    found: list[int] = []
    asking = [
        threading.Thread(target=lambda: found.append(full.ask({"inputs": [{"do": "wait"}]})[0])) for _ in range(2)
    ]
    try:
        for one in asking:
            one.start()
        while full.model.asked < 1 or full.queue.inside < 2:
            time.sleep(0.01)
        assert full.ask({"inputs": [{}]})[0] == 503
        link = http.client.HTTPConnection("127.0.0.1", full.port, timeout=10)
        link.request("GET", "/ping")
        assert link.getresponse().status == 200
        full.model.gate.set()
        for one in asking:
            one.join()
        assert found == [200, 200]
        assert full.ask({"inputs": [{}]})[0] == 200
    finally:
        full.stop()


def test_what_takes_too_long_is_given_up_and_keeps_its_place_until_it_ends():
    slow = Running(waiting=0, seconds=1)
    try:
        status, text = slow.ask({"inputs": [{"do": "wait"}]})
        assert status == 503
        assert "no answer within 1 s" in text
        assert slow.ask({"inputs": [{}]})[0] == 503  # the thread still works on it
        slow.model.gate.set()
        for _ in range(100):
            status, _ = slow.ask({"inputs": [{}]})
            if status == 200:
                break
            time.sleep(0.05)
        assert status == 200
    finally:
        slow.stop()


def test_columns_that_a_classifier_does_not_know_are_refused(running, monkeypatch):
    monkeypatch.setattr(running.served, "columns", frozenset({"a", "b"}))
    for table in (
        {"dataframe_split": {"columns": ["a", "b", "z"], "data": [[1, 2, 3]]}},
        {"dataframe_records": [{"a": 1, "z": 3}]},
    ):
        status, text = running.ask(table)
        assert status == 400
        assert "'z' is none of the 2 features" in text


def test_paths_are_cut_out_of_what_is_told():
    assert client_text("see /home/me/lab/x.py, C:\\Users\\me\\y or a/b\n  and go") == "see ..., ... or a/b and go"
    assert len(client_text("word " * 1000)) == 500
