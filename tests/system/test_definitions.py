"""Definitions files: what they bring to a broker, offline and at start, and how a broken one is told."""

import json
import os

from harness import contains, equal, eventually, permission, refused, test, user

NO_PORTS = ("--amqp", "127.0.0.1:0", "--http", "none")


def full():
    """A document with something of everything, as RabbitMQ exports it."""
    return {
        "rabbit_version": "4.1.0", "rabbitmq_version": "4.1.0", "product_name": "RabbitMQ",
        "product_version": "4.1.0", "rabbitmq_definition_format": "cluster", "original_cluster_name": "rabbit@x",
        "explanation": "Definitions of cluster 'rabbit@x'",
        "users": [user("sha256", tags=["administrator"]), user("sha512", algorithm="sha512"),
                  user("md5", algorithm="md5"),
                  {"name": "nologin", "password_hash": "", "tags": []}],
        "vhosts": [{"name": "/"}, {"name": "shop", "description": "the shop", "tags": [], "metadata": {}},
                   {"name": "quorum", "default_queue_type": "quorum"}],
        "permissions": [permission(name, vhost=vhost) for name in ("sha256", "sha512", "md5", "nologin")
                        for vhost in ("/", "shop", "quorum")],
        "topic_permissions": [{"user": "sha512", "vhost": "shop", "exchange": "events", "write": "^w\\.",
                               "read": "^r\\."}],
        "parameters": [{"component": "vhost-limits", "vhost": "shop", "name": "limits",
                        "value": {"max-queues": 5, "max-connections": 3}}],
        "global_parameters": [{"name": "cluster_name", "value": "rabbit@x"}],
        "policies": [{"vhost": "shop", "name": "short", "pattern": "^o", "apply-to": "queues", "priority": 1,
                      "definition": {"max-length": 10}}],
        "exchanges": [
            {"name": "events", "vhost": "shop", "type": "topic", "durable": True, "auto_delete": False,
             "internal": False, "arguments": {}},
            {"name": "inner", "vhost": "shop", "type": "fanout", "durable": True, "auto_delete": False,
             "internal": True, "arguments": {"alternate-exchange": "events"}}],
        "queues": [
            {"name": "orders", "vhost": "shop", "durable": True, "auto_delete": False,
             "arguments": {"x-max-length": 3, "x-dead-letter-exchange": "events"}},
            {"name": "replicated", "vhost": "shop", "durable": True, "auto_delete": False,
             "arguments": {"x-queue-type": "quorum"}}],
        "bindings": [
            {"source": "events", "vhost": "shop", "destination": "orders", "destination_type": "queue",
             "routing_key": "order.*", "arguments": {}},
            {"source": "events", "vhost": "shop", "destination": "inner", "destination_type": "exchange",
             "routing_key": "all.#", "arguments": {}},
            {"source": "inner", "vhost": "shop", "destination": "replicated", "destination_type": "queue",
             "routing_key": "", "arguments": {}}]}


def is_all_there(broker):
    """Asks over AMQP for everything in `full`."""
    for name in ("sha256", "sha512", "md5"):
        broker.connect(user=name, password="pw", vhost="shop").close()
    with refused("connection", 403, "Login was refused using authentication mechanism PLAIN. "
                                    "For details see the broker logfile."):
        broker.connect(user="nologin", password="", capabilities=["authentication_failure_close"])
    channel = broker.connect(user="sha256", password="pw", vhost="shop").channel()
    channel.call("confirm.select")
    channel.declare("orders", arguments={"x-max-length": 3, "x-dead-letter-exchange": "events"})
    channel.declare("replicated", arguments={"x-queue-type": "quorum"})
    channel.call("exchange.declare", exchange="events", type="topic", durable=True)
    channel.call("exchange.declare", exchange="inner", type="fanout", durable=True, internal=True,
                 arguments={"alternate-exchange": "events"})
    for key, is_routed in (("order.new", True), ("order", False), ("all.that.is", True), ("none", False)):
        equal(channel.is_routed("events", key), is_routed, "routed with key " + key)
    equal([channel.get(queue).body for queue in ("orders", "replicated")], [b"probe", b"probe"], "messages")
    with refused("channel", 403, "cannot publish to internal exchange 'inner' in vhost 'shop'"):
        channel.is_routed("inner", "")


@test("serve --load-definitions brings everything of a file, and it survives restarts without it")
def load_at_start(context):
    file = context.write("defs.json", full())
    broker = context.broker("--load-definitions", file)
    is_all_there(broker)
    broker.stop()
    is_all_there(context.broker("--load-definitions", file))
    context.brokers[-1].kill()
    is_all_there(context.broker())


@test("haremq definitions import works on a folder that no broker uses, twice alike")
def import_offline(context):
    file = context.write("defs.json", full())
    code, out, errors = context.run("definitions", "import", file, "--data-dir", "data")
    equal((code, errors), (0, ""), "outcome")
    contains(out, "definitions imported, 0 were there already", "report")
    code, out, _ = context.run("definitions", "import", file, "--data-dir", "data")
    equal(code, 0, "exit code")
    contains(out, "0 definitions imported", "report")
    broker = context.broker()
    is_all_there(broker)
    context.fails(75, "data folder data is in use by another haremq", "definitions", "import", file, "--data-dir",
                  "data")
    is_all_there(broker)
    broker.stop()
    code, _, errors = context.run("definitions", "import", file, environment={"HAREMQ_DATA_DIR": "elsewhere"})
    equal((code, errors), (0, ""), "outcome")
    assert os.path.isdir(context.path("elsewhere", "meta"))


@test("an import over what exists adds, replaces users and keeps queues that differ")
def import_over(context):
    broker = context.broker()
    broker.connect().channel().declare("orders", arguments={"x-max-length": 9})
    broker.stop()
    file = context.write("defs.json", {
        "users": [user("guest", password="new")], "vhosts": [{"name": "/"}],
        "queues": [{"name": name, "vhost": "/", "durable": True, "auto_delete": False,
                    "arguments": {"x-max-length": 3}} for name in ("orders", "more")]})
    code, out, _ = context.run("definitions", "import", file, "--data-dir", "data")
    equal(code, 0, "exit code")
    contains(out, "kept as it is: ", "report")
    channel = context.broker().connect(password="new").channel()
    channel.declare("orders", arguments={"x-max-length": 9})
    channel.declare("more", arguments={"x-max-length": 3})


@test("policies, parameters and vhost metadata are kept in the export beside the catalogue")
def kept_in_export(context):
    broker = context.broker("--load-definitions", context.write("defs.json", full()))
    broker.stop()
    with open(context.path("data", "meta.json"), encoding="utf-8") as export:
        kept = json.load(export)
    policy = [row for row in kept["policies"] if row["name"] == "short"][0]
    equal((policy["vhost"], policy["pattern"], policy["apply-to"], policy["priority"], policy["definition"]),
          ("shop", "^o", "queues", 1, {"max-length": 10}), "policy")
    equal([row["value"] for row in kept["parameters"]], [{"max-queues": 5, "max-connections": 3}], "parameters")
    shop = [row for row in kept["vhosts"] if row["name"] == "shop"][0]
    equal(shop["metadata"]["description"], "the shop", "description")
    assert not [row for row in kept["exchanges"] if row["name"].startswith("amq.") or not row["name"]], "predeclared"


@test("a broken definitions file is one line with the place of the value and 65, and changes nothing")
def broken_files(context):
    def document(section, place, value, base=None):
        made = json.loads(json.dumps(base or full()))
        target = made[section]
        for step in place[:-1]:
            target = target[step]
        if value is None:
            del target[place[-1]]
        else:
            target[place[-1]] = value
        return made

    cases = [
        ("{\"users\": [", "not JSON: "), ("", "not JSON: "), ("[]", "document: expected an object"),
        ({"users": {}}, "users: expected a list"), ({"users": ["ann"]}, "users[0]: expected an object"),
        (document("users", [1, "name"], None), "users[1].name: missing"),
        (document("users", [1, "tags"], None), "users[1].tags: missing"),
        (document("users", [1, "tags"], [1]), "users[1].tags[0]: expected a string"),
        (document("users", [2, "password_hash"], "***"), "users[2].password_hash: "),
        (document("users", [2, "hashing_algorithm"], "rot13"), "users[2].hashing_algorithm: 'rot13' is not known"),
        (document("vhosts", [1, "name"], ""), "vhosts[1].name: empty"),
        (document("vhosts", [1, "name"], "v" * 256), "vhosts[1].name: at most 255 bytes"),
        (document("vhosts", [2, "default_queue_type"], "heap"), "vhosts[2].default_queue_type: "),
        (document("permissions", [0, "user"], 7), "permissions[0].user: expected a string"),
        (document("permissions", [3, "read"], "("), "permissions[3].read: "),
        (document("permissions", [3, "read"], None), "permissions[3].read: missing"),
        (document("topic_permissions", [0, "write"], "["), "topic_permissions[0].write: "),
        (document("exchanges", [0, "type"], None), "exchanges[0].type: missing"),
        (document("exchanges", [0, "durable"], "maybe"), "exchanges[0].durable: expected true or false"),
        (document("exchanges", [0, "vhost"], None), "exchanges[0].vhost: missing"),
        (document("queues", [0, "vhost"], "nowhere"), "queues[0]"),
        (document("queues", [0, "arguments"], 5), "queues[0].arguments: "),
        (document("queues", [0, "type"], "heap"), "queues[0].type: "),
        (document("bindings", [2, "destination_type"], "topic"), "bindings[2].destination_type: "),
        (document("bindings", [0, "source"], None), "bindings[0].source: missing"),
        (document("policies", [0, "apply-to"], "cats"), "policies[0].apply-to: 'cats' is none of"),
        (document("policies", [0, "definition"], None), "policies[0].definition: missing")]
    for content, place in cases:
        file = context.write("defs.json", content)
        line = context.fails(65, place, "definitions", "import", file, "--data-dir", "data")
        assert len(line) < 600, line
    for content, place in cases[:4]:
        file = context.write("defs.json", content)
        line = context.fails(65, place, "serve", "--data-dir", "data", "--load-definitions", file, *NO_PORTS)
        contains(line, file, "line")
    assert not os.path.exists(context.path("data", "meta.json.damaged"))
    for command in (["definitions", "import", "gone.json", "--data-dir", "data"],
                    ["serve", "--data-dir", "data", "--load-definitions", "gone.json", *NO_PORTS]):
        context.fails(66, "gone.json", *command)
    broker = context.broker()
    broker.connect().close()
    with refused("connection", 530, "vhost shop not found"):
        broker.connect(vhost="shop")


@test("the exports of RabbitMQ 3.8, 3.12 and 4.1 are imported as they are")
def real_exports(context):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "definitions")
    for name in ("rabbitmq-3.8.json", "rabbitmq-3.12.json", "rabbitmq-4.1.json"):
        code, out, errors = context.run("definitions", "import", os.path.join(folder, name), "--data-dir", name)
        equal((code, errors), (0, ""), name + "\n" + out)
        broker = context.spawn("--data-dir", name, *NO_PORTS).until_ready()
        # Only a stream and the binding to it may be passed over, with a reason.
        passed_over = [line for line in broker.log.splitlines() if "passed over" in line]
        assert all("'log'" in line for line in passed_over), passed_over
        broker.stop()
    file = os.path.join(folder, "rabbitmq-4.1-single-vhost.json")
    context.fails(65, "missing (definitions of a single virtual host must be imported into one)", "definitions",
                  "import", file, "--data-dir", "single")
    assert not os.path.exists(context.path("single")), "a folder was made"


@test("the export follows a change within moments")
def export_follows(context):
    broker = context.broker()
    broker.connect().channel().declare("seen")

    def is_exported():
        try:
            with open(context.path("data", "meta.json"), encoding="utf-8") as export:
                return any(queue["name"] == "seen" for queue in json.load(export)["queues"])
        except FileNotFoundError:
            return False

    eventually(is_exported, "the queue is in meta.json")


@test("a first start with definitions makes no default user and no default vhost")
def no_default_user(context):
    file = context.write("defs.json", {"users": [user("ann")], "vhosts": [{"name": "shop"}],
                                       "permissions": [permission("ann", vhost="shop")]})
    broker = context.broker("--load-definitions", file)
    with refused("connection", 403, "Login was refused using authentication mechanism PLAIN. "
                                    "For details see the broker logfile."):
        broker.connect(capabilities=["authentication_failure_close"])
    with refused("connection", 530, "vhost / not found"):
        broker.connect(user="ann", password="pw")
    broker.connect(user="ann", password="pw", vhost="shop").close()
    broker.stop()
    broker = context.broker()
    broker.connect(user="ann", password="pw", vhost="shop").close()
    with refused("connection", 530, "vhost / not found"):
        broker.connect(user="ann", password="pw")
