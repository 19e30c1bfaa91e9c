"""Results as they are kept: a JSON file for each run, and the tables in docs/performance.md made of it.

In: figures and where they were measured. Out: text. What is measured is not known here, but for the rows' names.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
RESULTS = os.path.join(HERE, "results")
DOCUMENT = os.path.join(ROOT, "docs", "performance.md")

# What stands between these lines in the document is written by this.
BEGIN, END = "<!-- %s: written by tests/bench/run.py, do not edit -->", "<!-- end of %s -->"


def machine():
    """What it was measured on."""
    model = memory = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = "%.0f GiB" % (int(lines.readline().split()[1]) / 2 ** 20)
    return {"processor": model, "cores": os.cpu_count(), "memory": memory, "kernel": platform.release()}


def commit():
    def git(*words):
        return subprocess.run(("git",) + words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    changed = "+" if git("status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock") else ""
    return git("rev-parse", "--short", "HEAD") + changed


def head():
    return {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": machine()}


def path_of(result, kind):
    return os.path.join(RESULTS, "%s-%s-%s.json" % (result["date"], kind, result["commit"].replace("+", "-changed")))


def save(result, kind):
    os.makedirs(RESULTS, exist_ok=True)
    path = path_of(result, kind)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, sort_keys=True)
        file.write("\n")
    return path


def put(name, text):
    """Writes a section of the document."""
    begin, end = BEGIN % name, END % name
    with open(DOCUMENT, encoding="utf-8") as file:
        document = file.read()
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit("docs/performance.md has no section %s" % name)
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(before + begin + "\n\n" + text.strip() + "\n\n" + end + after)


def number(value):
    """With as many digits as say something."""
    if value is None:
        return ""
    if abs(value) >= 10_000:
        return "{:,.0f}".format(round(value, -2)).replace(",", " ")
    if abs(value) >= 100:
        return "%.0f" % value
    return "%.2f" % value if abs(value) < 10 else "%.1f" % value


def values(rounds, key):
    return [one[key] for one in rounds if one.get(key) is not None]


def middle(rounds, key):
    """The median, and in brackets the range."""
    found = values(rounds, key)
    if not found:
        return ""
    text = number(statistics.median(found))
    return text if len(found) < 2 else "%s (%s to %s)" % (text, number(min(found)), number(max(found)))


def calibration(rounds):
    """The median of what the loops beside the rounds gave."""
    found = [one["calibration"] for one in rounds]
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def where(result):
    at = result["machine"]
    return "%s, commit %s, %d cores of %s, %s, Linux %s." % (
        result["date"], result["commit"], at["cores"], at["processor"], at["memory"], at["kernel"])


def table(header, lines):
    """A table as Markdown has it."""
    return "\n".join(["| %s |" % " | ".join(header), "|%s" % ("---|" * len(header))]
                     + ["| %s |" % " | ".join(str(cell) for cell in line) for line in lines])
