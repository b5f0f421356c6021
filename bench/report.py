"""Medians, and where results go: JSON beside the scripts, tables into docs/benchmarks.md between two marks."""
import datetime
import json
import os
import platform
import statistics

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(os.path.dirname(HERE), "docs", "benchmarks.md")
RESULTS = os.path.join(HERE, "results")


def number(value, digits):
    """1234567 → 1,234,567; three significant digits at least."""
    if value is None:
        return "–"
    if digits == 0 and value >= 100:
        return f"{value:,.0f}"
    return f"{value:,.{max(digits, 1 if digits == 0 else digits)}f}"


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def machine():
    with open("/proc/cpuinfo") as info:
        models = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    return f"{len(models) or os.cpu_count()} × {models[0] if models else platform.machine()}, Linux {platform.release()}"


def busy():
    """Is anybody else at work on this machine? Asked before a bench begins."""
    return os.getloadavg()[0] > 0.7


def save(name, data):
    os.makedirs(RESULTS, exist_ok=True)
    data = {"date": datetime.date.today().isoformat(), "machine": machine(), **data}
    with open(os.path.join(RESULTS, name + ".json"), "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    return data


def load(name):
    try:
        with open(os.path.join(RESULTS, name + ".json")) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write_section(name, text):
    """Replaces what stands between the marks of `name` in the page."""
    with open(PAGE) as file:
        page = file.read()
    begin, end = f"<!-- results of bench/{name} begin -->\n", f"<!-- results of bench/{name} end -->"
    head, rest = page.split(begin)
    tail = rest.split(end)[1]
    with open(PAGE, "w") as file:
        file.write(head + begin + text.rstrip() + "\n" + end + tail)
