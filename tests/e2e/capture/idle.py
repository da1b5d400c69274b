"""What the agent's services use while nothing happens: run in a node, prints JSON."""

import json, os, re, subprocess, sys, time

SECONDS = int(sys.argv[1])
UNIT = re.compile(r"/(rolesmith-(?:agent|apply|cluster|facts|logs|redis-watch))\.service")


def text(path):
    with open(path) as file:
        return file.read()


def look():
    """Every process of these units: its unit, whether systemd started it, PSS in bytes, processor ticks with those of its ended
    children."""
    seen = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            unit = UNIT.search(text(f"/proc/{pid}/cgroup"))
            if not unit:
                continue
            stat = text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            pss = re.search(r"^Pss: *(\d+) kB", text(f"/proc/{pid}/smaps_rollup"), re.M)
            seen[pid] = (unit[1], stat[1] == "1", int(pss[1]) * 1024, sum(map(int, stat[11:15])))
        except (OSError, TypeError):
            pass  # It has ended meanwhile.
    return seen


begun, first = time.time(), look()
peaks = {}
while (left := begun + SECONDS - time.time()) > 0:
    time.sleep(min(1, left))
    last, sums = look(), {}
    for unit, _, pss, _ in last.values():
        sums[unit] = sums.get(unit, 0) + pss
    for unit, total in sums.items():
        peaks[unit] = max(total, peaks.get(unit, 0))
took = time.time() - begun

units = {}
for pid, (unit, main, pss, ticks) in last.items():
    if main and pid in first:
        percent = 100 * (ticks - first[pid][3]) / os.sysconf("SC_CLK_TCK") / took
        units[unit] = {"pss": pss, "percent": percent}
for unit, peak in peaks.items():
    units.setdefault(unit, {"pss": 0, "percent": 0})["peak"] = peak

# Services that come and go are counted by systemd when they end.
words = ["journalctl", "--output=cat", f"--since=@{int(begun)}", "--unit=rolesmith-apply", "--unit=rolesmith-facts"]
lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout
consumed = re.findall(r"Consumed (?:([\d.]+)min )?([\d.]+)(ms|s) CPU time", lines)
used = sum(float(m or 0) * 60 + float(n) / (1000 if u == "ms" else 1) for m, n, u in consumed)
print(json.dumps({"seconds": took, "units": units, "runs": len(consumed), "runs_percent": 100 * used / took}))
