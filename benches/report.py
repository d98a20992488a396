#!/usr/bin/env python3
"""Runs the bench, and puts its tables and chart into benches/README.md and benches/chart.svg.

    benches/report.py                   runs `cargo bench`, all rows, and rewrites both files
    benches/report.py WORD...           the rows whose names contain a word: the files then have only these
    benches/report.py --from FILE       takes what an earlier `cargo bench > FILE` printed
    benches/report.py --into FOLDER     writes README.md and chart.svg there, and leaves those of benches/

It needs Python 3.7 and nothing else.
"""

import argparse, datetime, os, pathlib, platform, re, subprocess, sys
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- benches/report.py writes from here -->", "<!-- to here -->"
HEAD = re.compile(r"^([a-z][a-z0-9-]*): (.+)$")
VALUE = re.compile(r"^  (\S.*?) +([\d.]+) +([\d.]+) +([\d.]+)  (\S.*?) +([\d.]+|NaN|inf)$")
# Times and sizes: less of them is better.
LESS = re.compile(r"(ms|us|µs|KiB)\b")
REMARK = re.compile(r"^  (.+ is not installed|.+ failed: .+)$")


class Row:
    def __init__(self, name, title):
        self.name, self.title, self.measures, self.remarks = name, title, {}, []


def rows(text):
    """Each measure of a row is {unit: [(contestant, median, least, most, lead)]}, netkit first."""
    found = []
    for line in text.splitlines():
        if head := HEAD.match(line):
            found.append(Row(*head.groups()))
        elif found and (value := VALUE.match(line)):
            name, *numbers, unit, lead = value.groups()
            numbers = [float(number) for number in numbers]
            found[-1].measures.setdefault(unit, []).append((name, *numbers, float(lead)))
        elif found and (remark := REMARK.match(line)):
            found[-1].remarks.append(remark[1])
    return [row for row in found if row.measures]


def short(number):
    if number >= 100:
        return f"{float(f'{number:.3g}'):,.0f}"
    return f"{number:.3g}"


def tables(found):
    lines = ["| work | netkit | others |", "| --- | --- | --- |"]
    for row in found:
        for index, (unit, values) in enumerate(row.measures.items()):
            cells = [f"{short(median)} ({short(least)}–{short(most)})" for _, median, least, most, _ in values]
            others = [f"{value[0]} {cell}" for value, cell in zip(values[1:], cells[1:])]
            title = f"`{row.name}`: {row.title}; {unit}" if index == 0 else f"… {unit}"
            lines.append(f"| {title} | {cells[0]} | {'; '.join(others)} |")
    remarks = {f"{remark}." for row in found for remark in row.remarks if "not installed" in remark}
    remarks |= {f"`{row.name}`: {remark}." for row in found for remark in row.remarks if "failed" in remark}
    return "\n".join(lines + ([""] + [f"- {remark}" for remark in sorted(remarks)] if remarks else []))


def machine():
    """One sentence about where it was measured."""
    model = "an unknown processor"
    try:
        names = re.findall(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
        model = names[0] if names else model
    except OSError:
        pass
    try:
        rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    except (OSError, IndexError):
        rust = "?"
    today = datetime.date.today()
    date = f"{today.day} {today:%B %Y}"
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return (
        f"Measured on {date}, with {os.cpu_count()} processors ({model}, {system}, Rust {rust}).\n"
        "Medians, with the least and the most in brackets."
    )


def chart(found):
    """Bars for the first measure of each row; the longest is the largest value of its row."""
    width, label, bar, line = 820, 250, 400, 17
    body, y = [], 34
    body.append(f'<text x="16" y="22" fill="#e6edf3" font-size="14">netkit and others: benches/README.md</text>')
    for row in found:
        if row.name.startswith("growth"):
            continue
        unit, values = next(iter(row.measures.items()))
        y += 14
        note = "less is better" if LESS.match(unit) else "more is better"
        body.append(f'<text x="16" y="{y}" fill="#e6edf3">{escape(row.title)}</text>')
        body.append(f'<text x="{width - 16}" y="{y}" fill="#9198a1" text-anchor="end">{escape(unit)}, {note}</text>')
        y += 7
        most = max(value[1] for value in values) or 1
        for name, median, *_ in values:
            colour, length = ("#3fb950" if name.startswith("netkit") else "#57606a"), max(1, bar * median / most)
            body.append(f'<text x="{label - 8}" y="{y + 12}" fill="#c9d1d9" text-anchor="end">{escape(name)}</text>')
            body.append(f'<rect x="{label}" y="{y + 2}" width="{length:.0f}" height="{line - 5}" rx="2" fill="{colour}"/>')
            body.append(f'<text x="{label + length + 6:.0f}" y="{y + 12}" fill="#e6edf3">{short(median)}</text>')
            y += line
        y += 8
    height = y + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui,\'DejaVu Sans\',sans-serif" font-size="12">\n<title>netkit and other tools</title>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" stroke="#3d444d"/>'
    )
    return "\n".join([head, *body, "</svg>", ""])


def run(words):
    """`cargo bench`, shown while it runs."""
    command = ["cargo", "bench", "--bench", "versus", "--", *words]
    bench = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in bench.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line)
    if bench.wait():
        sys.exit(f"cargo bench failed: {bench.returncode}")
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--from", dest="source", metavar="FILE", type=pathlib.Path)
    parser.add_argument("--into", metavar="FOLDER", type=pathlib.Path, default=HERE)
    options = parser.parse_args()
    text = options.source.read_text() if options.source else run(options.words)
    found = rows(text)
    if not found:
        sys.exit("the bench printed no row")
    page = (HERE / "README.md").read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    picture = "![Bars: netkit beside the other tools, for each row](chart.svg)"
    written = f"{before}{BEGIN}\n\n{machine()}\n\n{picture}\n\n{tables(found)}\n\n{END}{after}"
    (options.into / "README.md").write_text(written)
    (options.into / "chart.svg").write_text(chart(found))
    print(f"{len(found)} rows are in {options.into}/README.md and {options.into}/chart.svg")


main()
