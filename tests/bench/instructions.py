#!/usr/bin/env python3
"""Instructions a message, by callgrind, against the ceilings that are committed beside this.

In: the program of `tests/bench/instructions` (`--program`). Out: a line for each scenario, the line `N passed, M failed`, and an
exit code. A count does not depend on how busy the machine is, so that a gate can judge it: what is above its ceiling fails, what is
well below is a ceiling to be lowered (`--write` does). It depends on the compiler: a new one may ask for new ceilings.

Each scenario runs twice, the second time with twice the work; the difference is what the work costs, without the start. Threads
that wait for each other by spinning do so as long as they please: such functions do not count.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CEILINGS = os.path.join(HERE, "ceilings.json")

# Where threads spin, or work as often as time allows, and not as often as there are messages.
NOT_COUNTED = ("sled::lazy::Lazy", "sled::tree::Tree::apply_batch", "core::hint::spin_loop", "crossbeam_utils::backoff",
               "Mutex>::lock_contended", "background_thread")

# A ceiling is so much above what was counted; a count so far below its ceiling asks for a lower one.
CEILING_ABOVE = 1.04
CEILING_LOW = 0.93

RUN_SECONDS_MAX = 300

# How often a count that is above its ceiling is made again before it fails.
RECOUNTS = 2

# How often the small one of the two runs does the work.
TIMES = 4000
TIMES_OF = {"declare-and-bind": 200, "open-and-close": 200, "fill-1024": 6000, "confirmed-1024": 6000,
            "fill-1024+cold-read": 6000, "fan-out-10-1024": 20000}


def counted(program, scenario, times):
    """Instructions of one run, but for those that do not count; by function, the most first."""
    folder = tempfile.mkdtemp(prefix="haremq-instructions-")
    try:
        out = os.path.join(folder, "callgrind.out")
        data = os.path.join(folder, "data")
        os.mkdir(data)
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "--compress-pos=no",
                   program, scenario, str(times), data]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
        if done.returncode != 0:
            raise SystemExit("%s: exit code %d\n%s" % (" ".join(command), done.returncode, done.stderr[-3000:]))
        return by_function(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def by_function(path):
    """Self cost of each function in a file of callgrind's, whose format is in Valgrind's manual."""
    costs, names, function, is_call = {}, {}, None, False
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("fn="):
                number, _, name = line[3:].rstrip("\n").partition(") ")
                if name:
                    names[number] = name
                # A name that was given before stands there by its number alone.
                function = names[number.rstrip(")")]
            elif line.startswith("cfn="):
                number, _, name = line[4:].rstrip("\n").partition(") ")
                if name:
                    names[number] = name
            elif line.startswith("calls="):
                is_call = True
            elif line[:1].isdigit() or line[:1] in "+-*":
                # The line behind `calls=` is the cost of the callee, which counts where it is its own.
                if not is_call and function is not None:
                    costs[function] = costs.get(function, 0) + int(line.split()[1])
                is_call = False
    return {name: cost for name, cost in costs.items() if not any(part in name for part in NOT_COUNTED)}


def measure(program, scenario):
    """Instructions for each time, and the functions that they are in."""
    times = TIMES_OF.get(scenario, TIMES)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        less, more = pool.map(lambda factor: counted(program, scenario, times * factor), (1, 2))
    functions = {name: (more.get(name, 0) - less.get(name, 0)) / times for name in more.keys() | less.keys()}
    return sum(functions.values()), functions


def scenarios(program):
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in listed.splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--only", nargs="*", help="scenarios")
    parser.add_argument("--rounds", type=int, default=1, help="count so many times; the lowest is judged")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="show the N most costly functions of each")
    parser.add_argument("--write", action="store_true", help="write ceilings just above what is counted")
    options = parser.parse_args()
    program = os.path.abspath(options.program)
    units = scenarios(program)
    for name in options.only or ():
        if name not in units:
            parser.error("no scenario %s; there are: %s" % (name, " ".join(units)))
    wanted = list(options.only or units)
    rounds = [count_all(program, wanted, options.functions) for _ in range(options.rounds)]
    ceilings = {} if options.write else read_ceilings()
    for _ in range(RECOUNTS):
        # What other threads do at the wrong moment only adds: the lowest count is the true one.
        above = [name for name in wanted if lowest(rounds, name) > ceilings.get(short(name), float("inf"))]
        if not above:
            break
        print("counted again: %s" % " ".join(above), flush=True)
        rounds.append(count_all(program, above, 0))
    return judge(units, wanted, rounds, options)


def short(name):
    """The name of what is counted: of a scenario with more work behind it, that work."""
    return name.partition("+")[2] or name


def lowest(rounds, name):
    return min(counts[name] for counts in rounds if name in counts)


def count_all(program, names, shown):
    """What each scenario costs; one with more work behind another costs what it costs more than that one."""
    counts, bases = {}, {}
    for name in names:
        counts[name], functions = measure(program, name)
        base, _, _ = name.partition("+")
        if base != name:
            if base not in counts and base not in bases:
                bases[base], _ = measure(program, base)
            counts[name] -= counts.get(base, bases.get(base))
        if shown:
            for function, count in sorted(functions.items(), key=lambda one: -one[1])[:shown]:
                print("    %10.1f  %s" % (count, function[:150]))
            print("%s: %.0f" % (name, counts[name]), flush=True)
    return counts


def read_ceilings():
    with open(CEILINGS, encoding="utf-8") as file:
        return json.load(file)


def judge(units, names, rounds, options):
    ceilings = read_ceilings()
    passed = failed = 0
    print("%-20s %14s %10s %10s   %s" % ("scenario", "instructions", "ceiling", "spread", "per"))
    for name in names:
        counts = [one[name] for one in rounds if name in one]
        count, key, verdict = round(min(counts)), short(name), units[name]
        if options.write:
            ceilings[key] = round(count * CEILING_ABOVE)
        ceiling = ceilings.get(key)
        if ceiling is None or count > ceiling:
            failed += 1
            verdict += "   ABOVE ITS CEILING" if ceiling is not None else "   has no ceiling: --write"
        else:
            passed += 1
            if count < ceiling * CEILING_LOW:
                verdict += "   the ceiling could be %d: --write" % round(count * CEILING_ABOVE)
        print("%-20s %14d %10s %9.2f%%   %s" % (key, count, ceiling, (max(counts) - min(counts)) / count * 100, verdict))
    if options.write:
        with open(CEILINGS, "w", encoding="utf-8") as file:
            json.dump(ceilings, file, indent=2)
            file.write("\n")
    print("%d passed, %d failed" % (passed, failed))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
