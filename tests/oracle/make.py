"""Makes scipy.json: what scipy says of small tables of counts.

    python -m venv venv && venv/bin/pip install -r tests/oracle/requirements.txt
    venv/bin/python tests/oracle/make.py

Samples are drawn with a fixed seed, and both their counts, bin by bin, and scipy's values are written, so that the test
needs no random numbers.
"""

import json
import pathlib

import numpy as np
import scipy
from scipy import stats
from scipy.spatial.distance import jensenshannon

rng = np.random.default_rng(4)


def tied():
    """Samples of the numbers 0 to 59: a bin is a value, and the statistic of the counts is that of the values."""
    cases = []
    for n, m, shift in [(20, 20, 0), (50, 50, 3), (6000, 20, 2), (6000, 50, 0), (6000, 100, 1), (1000, 100, 2),
                        (6000, 500, 1), (6000, 3000, 0), (6000, 5000, 1), (200, 300, 1), (40, 2500, 1)]:
        r = np.round(rng.normal(30, 8, n)).clip(0, 59)
        c = np.round(rng.normal(30 + shift, 8, m)).clip(0, 59)
        counts = [np.array([(sample == v).sum() for v in range(60)]) for sample in (r, c)]
        ks = stats.ks_2samp(r, c)
        cases.append({
            "reference": counts[0].tolist(),
            "current": counts[1].tolist(),
            "ks": float(ks.statistic),
            "wasserstein": float(stats.wasserstein_distance(r, c)),
        })
    return cases


def ks_p():
    """p-values of statistics of samples without ties; exact, as scipy has them up to 10,000 values."""
    cases = []
    for n, m in [(5, 7), (20, 20), (50, 50), (16, 6000), (50, 1000), (40, 2500), (50, 6000), (100, 6000), (500, 6000),
                 (3000, 6000), (5000, 6000), (1000, 1000), (100, 2000)]:
        for shift in (0.0, 0.05, 0.3, 0.8):
            ks = stats.ks_2samp(rng.normal(0, 1, n), rng.normal(shift, 1, m), method="exact")
            cases.append({"n": n, "m": m, "statistic": float(ks.statistic), "p": float(ks.pvalue)})
    return cases


def categories():
    """Tables of counts whose expected counts are all 5 or more, as scipy does not pool."""
    cases = []
    for k, n, m, strength in [(2, 30, 40, 0.0), (3, 200, 100, 0.5), (7, 6000, 500, 0.3), (7, 6000, 3000, 0.02),
                              (20, 6000, 5000, 0.05), (59, 60000, 20000, 0.03), (5, 10**7, 10**6, 0.002)]:
        p = rng.dirichlet(np.full(k, 8.0))
        q = p * np.exp(strength * rng.standard_normal(k))
        r, c = rng.multinomial(n, p), rng.multinomial(m, q / q.sum())
        test = stats.chi2_contingency(np.stack([r, c]), correction=False)
        if test.expected_freq.min() < 5:
            raise SystemExit(f"an expected count of {test.expected_freq.min()} would be pooled: {k} {n} {m}")
        share_r, share_c = r / n, c / m
        half_r, half_c = (r + 0.5) / (n + k / 2), (c + 0.5) / (m + k / 2)
        cases.append({
            "reference": r.tolist(),
            "current": c.tolist(),
            "chi_square": float(test.statistic),
            "degrees": int(test.dof),
            "p": float(test.pvalue),
            "js_distance": float(jensenshannon(share_r, share_c, base=2)),
            "smoothed_js_distance": float(jensenshannon(half_r, half_c, base=2)),
            "kl": float(stats.entropy(half_c, half_r)),
            "psi": float(stats.entropy(half_c, half_r) + stats.entropy(half_r, half_c)),
        })
    return cases


def tails():
    """The upper tail of the chi-square distribution."""
    return [
        {"x": x, "degrees": k, "p": float(stats.chi2.sf(x, k))}
        for k in (1, 2, 3, 9, 30, 61)
        for x in (0.01, 0.5, 1.0, 4.0, 10.0, 35.0, 62.0, 120.0, 500.0)
    ]


def proportions():
    """Fisher's exact test, one-sided."""
    cases = []
    for reference, n, current, m in [(0, 6000, 1, 50), (0, 6000, 3, 50), (1, 10, 3, 10), (300, 6000, 4, 50), (5, 50, 1, 50),
                                     (300, 6000, 2, 50), (489, 6000, 1200, 3000), (300, 6000, 148, 3000), (0, 20, 20, 20),
                                     (299, 6000, 172, 3000), (6000, 6000, 50, 50), (30, 40, 2, 60)]:
        p = stats.fisher_exact([[current, m - current], [reference, n - reference]], alternative="greater").pvalue
        cases.append({"reference": reference, "reference_rows": n, "current": current, "current_rows": m, "p": float(p)})
    return cases


def exceedances():
    """New values out of the range of earlier ones: the beta-binomial distribution, by its terms, as `sf` is 1 - `cdf`."""
    return [
        {"count": k, "values": n, "reference_values": m, "p": float(stats.betabinom.pmf(np.arange(k, n + 1), n, 2, m - 1).sum())}
        for n, m in ((1, 2), (50, 6000), (3000, 6000), (200, 30), (5000, 500))
        for k in (1, 2, 5, 30)
        if k <= n
    ]


def spread():
    """Wasserstein of values that fill their bins evenly: each bin's count at so many places of it."""
    cases = []
    places = 400
    for reference, current in [
        ([0, 5, 3, 2, 0], [0, 2, 3, 5, 0]),
        ([0, 4, 4, 4, 0], [3, 1, 4, 1, 6]),
        ([1, 4, 0, 4, 0], [0, 1, 9, 1, 0]),
    ]:
        edges = np.array([-1.0, 0.5, 2.0, 7.0])
        at, weights_r, weights_c = [edges[0], edges[-1]], [reference[0], reference[-1]], [current[0], current[-1]]
        for i in range(3):
            within = edges[i] + (edges[i + 1] - edges[i]) * (np.arange(places) + 0.5) / places
            at.extend(within)
            weights_r.extend([reference[i + 1] / places] * places)
            weights_c.extend([current[i + 1] / places] * places)
        cases.append({
            "edges": edges.tolist(),
            "reference": reference,
            "current": current,
            "wasserstein": float(stats.wasserstein_distance(at, at, weights_r, weights_c)),
        })
    return cases


def adjusted():
    """Benjamini-Hochberg."""
    cases = [[0.01, 0.04, 0.03, 0.002], [0.5], [0.2, 0.2, 0.9, 1.0, 1e-9], rng.random(20).tolist()]
    return [{"p": p, "adjusted": stats.false_discovery_control(p).tolist()} for p in cases]


out = {
    "scipy": scipy.__version__,
    "tied": tied(),
    "ks_p": ks_p(),
    "categories": categories(),
    "tails": tails(),
    "proportions": proportions(),
    "exceedances": exceedances(),
    "spread": spread(),
    "adjusted": adjusted(),
}
# One case a line.
lines = [f'"scipy": {json.dumps(out.pop("scipy"))}']
for name, cases in out.items():
    lines.append(f'"{name}": [\n' + ",\n".join("  " + json.dumps(case) for case in cases) + "\n]")
path = pathlib.Path(__file__).parent / "scipy.json"
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(path)
