"""HTTP: the health checks that containers and load balancers ask, with RabbitMQ's paths and bodies."""

import base64
import json
import socket
import urllib.error
import urllib.request

from harness import DEADLOCK_S, contains, equal, free_port, permission, test, user

CHECKS = "/api/health/checks/"


def get(broker, path, login=None):
    """Status, body (as JSON where it is) and headers."""
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (broker.http_port, path))
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=DEADLOCK_S) as answer:
            status, body, headers = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, body, headers = error.code, error.read(), error.headers
    try:
        return status, json.loads(body), headers
    except ValueError:
        return status, body.decode(), headers


@test("checks without a login: in service, ready, below the limit of connections")
def open_checks(context):
    broker = context.broker(environment={"HAREMQ_LIMITS_CONNECTIONS_MAX": "1"})
    for name in ("is-in-service", "ready-to-serve-clients", "below-node-connection-limit"):
        status, body, _ = get(broker, CHECKS + name)
        equal((status, body["status"]), (200, "ok"), name)
    connection = broker.connect()
    status, body, _ = get(broker, CHECKS + "below-node-connection-limit")
    equal((status, body["status"], body["connections"], body["limit"]), (503, "failed", 1, 1), "answer at the limit")
    connection.close()
    equal(get(broker, CHECKS + "below-node-connection-limit")[0], 200, "status below the limit")


@test("checks with a login: alarms and listeners, for users with a tag of the management")
def closed_checks(context):
    file = context.write("defs.json", {
        "users": [user("guest", "guest", tags=["administrator"]), user("plain"),
                  user("watcher", tags=["monitoring"])],
        "vhosts": [{"name": "/"}], "permissions": [permission("plain")]})
    broker = context.broker("--load-definitions", file)
    port = CHECKS + "port-listener/%d"
    for path in (CHECKS + "alarms", CHECKS + "local-alarms", port % broker.port, port % broker.http_port):
        for login in ("guest:guest", "watcher:pw"):
            status, body, _ = get(broker, path, login)
            equal((status, body["status"]), (200, "ok"), path)
        status, body, headers = get(broker, path)
        equal(status, 401, "status without a login")
        contains(headers["WWW-Authenticate"], "Basic realm=", "challenge")
        for login in ("guest:wrong", "nobody:x", "guest"):
            equal(get(broker, path, login)[0:2],
                  (401, {"error": "not_authorized", "reason": "Not_Authorized"}), login)
        equal(get(broker, path, "plain:pw")[0:2],
              (401, {"error": "not_authorised", "reason": "Not management user"}), "a user without tags")
    closed = free_port()
    status, body, _ = get(broker, port % closed, "guest:guest")
    equal((status, body["status"], body["missing"], body["reason"]),
          (503, "failed", closed, "No active listener"), "answer for a closed port")
    equal(get(broker, CHECKS + "port-listener/many", "guest:guest")[0], 400, "status for a port that is none")


@test("other paths are 404, and rubbish on the HTTP port does no harm")
def not_found(context):
    broker = context.broker()
    equal(get(broker, "/api/nothing")[0:2], (404, {"error": "Object Not Found", "reason": "Not Found"}), "answer")
    contains(get(broker, "/")[1], "HareMQ ", "front page")

    with socket.create_connection(("127.0.0.1", broker.http_port), DEADLOCK_S) as rubbish:
        rubbish.sendall(b"AMQP\x00\x00\x09\x01")
        rubbish.settimeout(DEADLOCK_S)
        rubbish.recv(100)
    equal(get(broker, CHECKS + "is-in-service")[0], 200, "status afterwards")
