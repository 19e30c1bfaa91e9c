"""The broker as a process: start, stop, resident memory and CPU time.

In: the path of the broker, or the port and process id of one that runs. Out: KiB and seconds, from /proc.
It knows nothing of AMQP.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 30
LOG_LINES_SHOWN = 40


class Running:
    """A broker that somebody else started: `--port` and `--pid`."""

    def __init__(self, port, pid):
        self.address = ("127.0.0.1", port)
        self.pid = pid

    def stop(self):
        """It is not ours to stop."""

    def resident_kib(self):
        with open("/proc/%d/status" % self.pid, encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise RuntimeError("the broker is gone")

    def cpu_seconds(self):
        """CPU time of all threads. The scheduler counts nanoseconds; `stat` has ticks of 10 ms, too coarse here."""
        nanoseconds = 0
        folder = "/proc/%d/task" % self.pid
        for thread in os.listdir(folder):
            try:
                with open("%s/%s/schedstat" % (folder, thread), encoding="ascii") as schedstat:
                    nanoseconds += int(schedstat.read().split()[0])
            except OSError:
                # A thread that has just ended takes its reading along.
                continue
        return nanoseconds / 1e9


class Started(Running):
    """A broker of our own, on free ports and with a new data folder."""

    def __init__(self, binary):
        self.folder = tempfile.mkdtemp(prefix="haremq-connections-")
        port, http_port = free_ports(2)
        self.log_path = os.path.join(self.folder, "broker.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--data-dir", os.path.join(self.folder, "data"),
                 "--amqp", "127.0.0.1:%d" % port, "--http", "127.0.0.1:%d" % http_port],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        super().__init__(port, self.process.pid)
        self.wait_until_it_listens()

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(self.address, 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError("the broker did not start")

    def stop(self):
        """Ends the broker, and complains if it had ended by itself or does not end cleanly."""
        ended_early = self.process.poll() is not None
        if not ended_early:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        try:
            if ended_early or code != 0:
                with open(self.log_path, encoding="utf-8", errors="replace") as log:
                    print("".join("# " + line for line in log.readlines()[-LOG_LINES_SHOWN:]), flush=True)
                raise RuntimeError("the broker ended %swith exit code %d" % ("early, " if ended_early else "", code))
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
