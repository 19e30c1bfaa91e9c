#!/usr/bin/env python3
"""Runs the suites of real AMQP clients against a broker and counts their checks.

In: the path of a haremq binary (`--broker`), or the URI of a running broker (`--uri`).
Out: a table of suites, the line `N passed, M failed, K skipped`, and the exit code.
It knows nothing of AMQP: each suite is a program that prints `ok NAME`,
`not ok NAME: why` or `skip NAME: reason` for each check and `1..N` when all of its
N checks have run, so that a suite that dies half-way cannot pass.

A suite finds the broker in AMQP_URI. If BROKER_RESTART_CMD is set, that shell command
kills the broker with SIGKILL and returns once it accepts connections again.
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(HERE, ".cache")

SUITE_SECONDS_MAX = 180
INSTALL_SECONDS_MAX = 1200
BROKER_START_SECONDS_MAX = 20
PARALLEL_SUITES = 2
BROKER_LOG_LINES_SHOWN = 80


class Unavailable(Exception):
    """A client that this machine cannot have (no apt-get, no root): a skip, with its reason."""


class InstallFailed(Exception):
    """A client that should have been installed and was not: a failure."""


# ---------------------------------------------------------------- installing clients

def run_quietly(command, cwd=None, env=None):
    """Runs an installation step; its output is shown only if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=INSTALL_SECONDS_MAX)
    except FileNotFoundError as error:
        raise InstallFailed("%s is not installed" % error.filename)
    except subprocess.TimeoutExpired:
        raise InstallFailed("%s took longer than %d s" % (shlex.join(command), INSTALL_SECONDS_MAX))
    if done.returncode != 0:
        text = done.stdout.decode("utf-8", "replace")
        raise InstallFailed("%s failed:\n%s" % (shlex.join(command), text[-4000:]))


def debian_package_installed(name):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", name],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode == 0 and done.stdout.decode().endswith("ok installed")


def need_debian(*packages):
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise Unavailable("needs the Debian packages %s, and there is no apt-get here" % " ".join(packages))
    missing = [name for name in packages if not debian_package_installed(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Unavailable("needs the Debian packages %s: run as root, or apt-get install them" % " ".join(missing))
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"] + missing
    try:
        run_quietly(install, env=env)
    except InstallFailed:
        run_quietly(["apt-get", "update", "-q"], env=env)
        run_quietly(install, env=env)


def stamp_is(path, text):
    try:
        with open(path, encoding="utf-8") as stamp:
            return stamp.read() == text
    except OSError:
        return False


def python_venv():
    """One virtual environment holds all Python clients; returns its interpreter."""
    folder = os.path.join(CACHE, "venv")
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, "requirements.installed")
    requirements = os.path.join(HERE, "requirements.txt")
    with open(requirements, encoding="utf-8") as source:
        wanted = source.read()
    if not (os.path.exists(python) and stamp_is(stamp, wanted)):
        shutil.rmtree(folder, ignore_errors=True)
        run_quietly([sys.executable, "-m", "venv", folder])
        run_quietly([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements])
        with open(stamp, "w", encoding="utf-8") as out:
            out.write(wanted)
    return python


def prepare_python(name):
    return [python_venv(), os.path.join(HERE, name, "suite.py")]


def prepare_cargo(name):
    target = os.path.join(CACHE, "cargo-target")
    manifest = os.path.join(HERE, name, "Cargo.toml")
    run_quietly(["cargo", "build", "--locked", "-q", "--manifest-path", manifest, "--target-dir", target])
    return [os.path.join(target, "debug", "interop-" + name)]


def prepare_node(name):
    """Node resolves packages from the script's folder, so the suite is copied beside its modules."""
    folder = os.path.join(CACHE, name)
    stamp = os.path.join(folder, "lock.installed")
    with open(os.path.join(HERE, name, "package-lock.json"), encoding="utf-8") as source:
        wanted = source.read()
    os.makedirs(folder, exist_ok=True)
    for file in ("package.json", "package-lock.json", ".npmrc", "suite.js"):
        shutil.copy(os.path.join(HERE, name, file), os.path.join(folder, file))
    if not stamp_is(stamp, wanted):
        run_quietly(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder)
        with open(stamp, "w", encoding="utf-8") as out:
            out.write(wanted)
    return ["node", os.path.join(folder, "suite.js")]


def prepare_amqp_tools(name):
    need_debian("amqp-tools")
    return [sys.executable, os.path.join(HERE, name, "suite.py")]


def prepare_rabbitmq_c(name):
    need_debian("librabbitmq-dev", "gcc", "libc6-dev")
    os.makedirs(CACHE, exist_ok=True)
    program = os.path.join(CACHE, "interop-rabbitmq-c")
    run_quietly(["gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program,
                 os.path.join(HERE, name, "suite.c"), "-lrabbitmq"])
    return [program]


def prepare_bunny(name):
    need_debian("ruby-bunny", "ruby")
    return ["ruby", os.path.join(HERE, name, "suite.rb")]


def prepare_php(name):
    need_debian("php-amqplib", "php-cli", "php-mbstring")
    return ["php", os.path.join(HERE, name, "suite.php")]


SUITES = {
    "pika": prepare_python,
    "prometheus": prepare_python,
    "kombu": prepare_python,
    "aio-pika": prepare_python,
    "lapin": prepare_cargo,
    "amqprs": prepare_cargo,
    "amqplib": prepare_node,
    "amqp-tools": prepare_amqp_tools,
    "rabbitmq-c": prepare_rabbitmq_c,
    "bunny": prepare_bunny,
    "php-amqplib": prepare_php,
}


# ---------------------------------------------------------------- the broker

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """One haremq process on ports and a data folder of its own, and the control port that restarts it."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.data = os.path.join(folder, "data")
        self.log_path = os.path.join(folder, "broker.log")
        self.process = None
        self.amqp_port = free_port()
        self.http_port = free_port()
        self.metrics_port = free_port()
        self.unexpected_exit = None
        self.lock = threading.Lock()
        self.control = socket.socket()
        self.control.bind(("127.0.0.1", 0))
        self.control.listen(4)
        threading.Thread(target=self._serve_control, daemon=True).start()

    @property
    def uri(self):
        return "amqp://guest:guest@127.0.0.1:%d/%%2f" % self.amqp_port

    @property
    def http_uri(self):
        return "http://guest:guest@127.0.0.1:%d/" % self.http_port

    @property
    def metrics_uri(self):
        return "http://127.0.0.1:%d" % self.metrics_port

    @property
    def restart_command(self):
        return shlex.join([sys.executable, os.path.abspath(__file__), "--restart-via",
                           "127.0.0.1:%d" % self.control.getsockname()[1]])

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data-dir", self.data,
                 "--amqp", "127.0.0.1:%d" % self.amqp_port, "--http", "127.0.0.1:%d" % self.http_port,
                 "--metrics", "127.0.0.1:%d" % self.metrics_port],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + BROKER_START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError("the broker ended at start with code %d" % self.process.returncode)
            try:
                socket.create_connection(("127.0.0.1", self.amqp_port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the broker did not listen within %d s" % BROKER_START_SECONDS_MAX)

    def kill(self):
        if self.process.poll() is not None:
            self.unexpected_exit = "the broker had ended by itself with code %d" % self.process.returncode
        else:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.control.close()
        if self.process is not None:
            self.kill()

    def log_tail(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-BROKER_LOG_LINES_SHOWN:])
        except OSError:
            return ""

    def _serve_control(self):
        while True:
            try:
                peer, _ = self.control.accept()
            except OSError:
                return
            with peer:
                try:
                    with self.lock:
                        self.kill()
                        self.start()
                    peer.sendall(b"done")
                except (OSError, RuntimeError) as error:
                    try:
                        peer.sendall(str(error).encode())
                    except OSError:
                        pass


def restart_via(address):
    """The client side of the control port: what BROKER_RESTART_CMD runs."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as control:
        control.settimeout(BROKER_START_SECONDS_MAX + 10)
        answer = b""
        while True:
            part = control.recv(4096)
            if not part:
                break
            answer += part
    if answer != b"done":
        print("restart failed: %s" % answer.decode("utf-8", "replace"), file=sys.stderr)
        return 1
    return 0


# ---------------------------------------------------------------- running a suite

class Result:
    def __init__(self, name):
        self.name = name
        self.passed = []
        self.failed = []
        self.skipped = []
        self.seconds = 0.0
        self.output = ""
        self.broker_log = ""

    @property
    def state(self):
        if self.failed:
            return "FAILED"
        return "passed" if self.passed else "skipped"


CHECK = re.compile(r"^(ok|not ok|skip) (.+)$")
PLAN = re.compile(r"^1\.\.(\d+)$")


def read_checks(result, output, code):
    planned = None
    for line in output.splitlines():
        plan = PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
            continue
        check = CHECK.match(line)
        if not check:
            continue
        {"ok": result.passed, "not ok": result.failed, "skip": result.skipped}[check.group(1)].append(check.group(2))
    count = len(result.passed) + len(result.failed) + len(result.skipped)
    if planned is None:
        result.failed.append("the suite: ended before its plan line (exit code %d)" % code)
    elif planned != count or planned == 0:
        result.failed.append("the suite: planned %d checks, reported %d" % (planned, count))
    elif code != 0 and not result.failed:
        result.failed.append("the suite: exit code %d" % code)


def run_command(result, command, env, cwd):
    """Runs the suite in a process group of its own, so that its workers end with it."""
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=SUITE_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        result.failed.append("the suite: not finished within %d s" % SUITE_SECONDS_MAX)
        output = b""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if not output:
        output, _ = process.communicate()
    result.output = output.decode("utf-8", "replace")
    read_checks(result, result.output, process.returncode)


def run_suite(name, command, args):
    result = Result(name)
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="haremq-clients-%s-" % name)
    env = dict(os.environ)
    env["PYTHONUNBUFFERED"] = "1"
    for name_of_setting in ("BROKER_RESTART_CMD", "HAREMQ_HTTP_URI", "HAREMQ_METRICS_URI"):
        env.pop(name_of_setting, None)
    broker = None
    try:
        if args.broker:
            broker = Broker(os.path.abspath(args.broker), folder)
            broker.start()
            env.update(AMQP_URI=broker.uri, HAREMQ_HTTP_URI=broker.http_uri, HAREMQ_METRICS_URI=broker.metrics_uri,
                       BROKER_RESTART_CMD=broker.restart_command)
        else:
            env["AMQP_URI"] = args.uri
            if args.restart_cmd:
                env["BROKER_RESTART_CMD"] = args.restart_cmd
        run_command(result, command, env, folder)
        if broker is not None and broker.process.poll() is not None:
            result.failed.append("the broker: ended by itself with code %d" % broker.process.returncode)
        elif broker is not None and broker.unexpected_exit:
            result.failed.append("the broker: " + broker.unexpected_exit)
    except (OSError, RuntimeError) as error:
        result.failed.append("the suite: %s" % error)
    finally:
        if broker is not None:
            broker.close()
            result.broker_log = broker.log_tail()
        shutil.rmtree(folder, ignore_errors=True)
    result.seconds = time.monotonic() - started
    return result


def prepare(name, args):
    """Returns the suite's command, or a Result that says why there is none."""
    result = Result(name)
    try:
        return SUITES[name](name)
    except Unavailable as reason:
        result.skipped.append("%s: %s" % (name, reason))
    except InstallFailed as reason:
        if name in args.allow_missing:
            result.skipped.append("%s: cannot be installed, allowed by --allow-missing: %s" % (name, reason))
        else:
            result.failed.append("%s: cannot be installed: %s" % (name, reason))
    return result


def report(result, verbose):
    print("== %s: %s in %.1f s" % (result.name, result.state, result.seconds), flush=True)
    for reason in result.skipped:
        print("   skipped %s" % reason)
    for reason in result.failed:
        print("   failed %s" % reason)
    if (result.failed or verbose) and result.output:
        print("   -- output of the suite")
        print("   " + "\n   ".join(result.output.rstrip().splitlines()))
    if result.failed and result.broker_log:
        print("   -- end of the broker's log")
        print("   " + "\n   ".join(result.broker_log.rstrip().splitlines()))
    sys.stdout.flush()


def names_of(text):
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in SUITES:
            raise argparse.ArgumentTypeError("no suite %r; there are: %s" % (name, ", ".join(SUITES)))
    return names


def main():
    parser = argparse.ArgumentParser(description="Real AMQP clients against a broker.")
    parser.add_argument("--broker", help="path of the haremq binary; each suite gets a fresh broker")
    parser.add_argument("--uri", help="URI of a running broker, instead of --broker; nothing is killed")
    parser.add_argument("--restart-cmd", help="with --uri: a command that kills and restarts that broker")
    parser.add_argument("--only", type=names_of, help="names of suites, separated by commas")
    parser.add_argument("--allow-missing", type=names_of, default=[], help="suites whose client may be missing")
    parser.add_argument("--list", action="store_true", help="print the names of the suites")
    parser.add_argument("--install-only", action="store_true", help="install and build the clients, run nothing")
    parser.add_argument("--verbose", action="store_true", help="print the output of passing suites too")
    parser.add_argument("--restart-via", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.restart_via:
        return restart_via(args.restart_via)
    if args.list:
        print("\n".join(SUITES))
        return 0
    if not args.install_only and bool(args.broker) == bool(args.uri):
        parser.error("give either --broker or --uri")
    if args.broker and not os.access(args.broker, os.X_OK):
        parser.error("no executable file at %s" % args.broker)
    names = args.only or list(SUITES)
    # A running broker is shared by the suites, so one that restarts it must run alone.
    workers = 1 if args.uri else PARALLEL_SUITES
    results = []
    commands = []
    for name in names:
        prepared = prepare(name, args)
        if isinstance(prepared, Result):
            results.append(prepared)
            report(prepared, args.verbose)
        else:
            commands.append((name, prepared))
    if not args.install_only:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            runs = [pool.submit(run_suite, name, command, args) for name, command in commands]
            for run in concurrent.futures.as_completed(runs):
                results.append(run.result())
                report(results[-1], args.verbose)
    results.sort(key=lambda result: names.index(result.name))
    print("%-14s %-8s %6s %6s %7s %8s" % ("suite", "state", "passed", "failed", "skipped", "seconds"))
    for result in results:
        print("%-14s %-8s %6d %6d %7d %8.1f" % (result.name, result.state, len(result.passed), len(result.failed),
                                                len(result.skipped), result.seconds))
    passed, failed, skipped = (sum(len(getattr(result, kind)) for result in results)
                               for kind in ("passed", "failed", "skipped"))
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
