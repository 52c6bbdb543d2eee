"""Makes windows.json: what scipy and Evidently say of windows of a table.

    python tests/oracle/windows.py FOLDER

FOLDER has the table, `reference.csv`, windows of it, `current_*.csv`, with what is true of them in `truth.json`, and in
`drift_oracle.json` scipy's and Evidently's values by window and column. The values of each column are counted by the bins
that `modelet pack` would freeze, so that the test needs neither the table nor any of the libraries. Needs Python alone.
"""

import bisect
import collections
import csv
import json
import math
import pathlib
import statistics
import sys

INSIDE_MAX = 60


def read(path, names):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in names}


class Numbers:
    """As `Bins::from_numbers`: a bin a value, or 60 of equal mass; one below and one above."""

    def __init__(self, name, cells):
        values = sorted(float(cell) for cell in cells if cell)
        distinct = sorted(set(values))
        cuts = distinct[1:]
        if len(distinct) > INSIDE_MAX:
            cuts = sorted({values[i * len(values) // INSIDE_MAX] for i in range(1, INSIDE_MAX)} - {values[0]})
        self.min, self.cuts, self.max = values[0], cuts, values[-1]
        self.column = {
            "name": name,
            "bins": {"type": "numeric", "min": self.min, "cuts": cuts, "max": self.max},
            "counts": self.count(cells),
            "std": statistics.pstdev(values),
            "distinct": len(distinct) <= INSIDE_MAX,
        }

    def count(self, cells):
        counts = [0] * (len(self.cuts) + 6)
        for cell in cells:
            value = float(cell) if cell else math.nan
            if math.isnan(value):
                counts[-3] += 1
            elif value < self.min:
                counts[0] += 1
            elif value > self.max:
                counts[-4] += 1
            else:
                counts[1 + bisect.bisect_right(self.cuts, value)] += 1
        return counts


class Categories:
    """As `Bins::from_categories`: a bin each, and one for the rest, of which there is none here."""

    def __init__(self, name, cells):
        frequent = collections.Counter(cell for cell in cells if cell).most_common()
        self.values = [value for value, _ in sorted(frequent, key=lambda pair: (-pair[1], pair[0]))]
        assert len(self.values) < INSIDE_MAX
        self.column = {"name": name, "bins": {"type": "categorical", "values": self.values}, "counts": self.count(cells)}

    def count(self, cells):
        counts = [0] * (len(self.values) + 4)
        for cell in cells:
            if not cell:
                counts[-3] += 1
            elif cell in self.values:
                counts[self.values.index(cell)] += 1
            else:
                counts[-2] += 1
        return counts


def short(value):
    return float(f"{value:.12g}")


def figures(told):
    """The values of a column that are held against ours."""
    scipy, evidently = told["scipy"], told["evidently"]
    if told["type"] == "categorical":
        test = scipy["chi2_contingency"]
        ours = {"statistic": test["statistic"], "p": test["pvalue"]}
        names = ["psi", "chisquare", "jensenshannon", "kl_div"]
    else:
        test = scipy["ks_2samp"]
        ours = {"statistic": test["statistic"], "p": test["pvalue"], "wasserstein": scipy["wasserstein_normed_by_ref_std"]}
        names = ["psi", "ks", "jensenshannon", "wasserstein", "kl_div"]
    ours["js_distance"] = scipy["jensenshannon_distance_base2"]
    return {
        "scipy": {name: short(value) for name, value in ours.items()},
        "evidently": {name: short(evidently[name]) for name in names},
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    oracle = json.loads((folder / "drift_oracle.json").read_text(encoding="utf-8"))
    names = truth["features"]
    reference = read(folder / "reference.csv", names)
    columns = [(Numbers if name in truth["numeric"] else Categories)(name, reference[name]) for name in names]

    windows = {}
    for window, told in oracle["datasets"].items():
        cells = read(folder / f"{window}.csv", names)
        true = truth["datasets"][window]
        windows[window.removeprefix("current_")] = {
            "rows": true["rows"],
            "kind": true.get("kind", "none"),
            "changed": true["drifted_features"],
            "columns": {
                column.column["name"]: {
                    "counts": column.count(cells[column.column["name"]]),
                    **figures(told["columns"][column.column["name"]]),
                }
                for column in columns
            },
        }

    # A column a line.
    lines = [f'"versions": {json.dumps(oracle["versions"])}', f'"reference_rows": {len(reference[names[0]])}']
    definitions = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in oracle["evidently_definitions"].items())
    lines.append('"evidently_definitions": {\n' + definitions + "\n}")
    lines.append('"columns": [\n' + ",\n".join("  " + json.dumps(c.column) for c in columns) + "\n]")
    parts = []
    for window, told in windows.items():
        head = ", ".join(f"{json.dumps(k)}: {json.dumps(told[k])}" for k in ("rows", "kind", "changed"))
        body = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in told["columns"].items())
        parts.append(f'  {json.dumps(window)}: {{{head}, "columns": {{\n{body}\n  }}}}')
    lines.append('"windows": {\n' + ",\n".join(parts) + "\n}")
    path = pathlib.Path(__file__).parent / "windows.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")
    print(path)


if __name__ == "__main__":
    main()
