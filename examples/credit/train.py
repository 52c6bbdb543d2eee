"""How to export an XGBoost model to ONNX for modelet: a credit default model, start to end.

    pip install -r requirements.txt  # in a virtual environment
    python train.py

It makes a synthetic table of loans, trains a binary classifier, exports it to ONNX, checks the
export against XGBoost, and writes beside itself what `modelet pack` takes:

    credit.onnx     the model: one float matrix in, label and probabilities out
    reference.csv   a sample of the training rows: types, ranges and the drift reference come from it
    expected.csv    ONNX Runtime's answers on those rows: pack compares its own with them
    signature.json  what the data cannot tell: allowed ranges, category codes, the positive class
    holdout.csv     rows the model has not seen, to send as requests
    request.json    the body of one request

The four numbered steps below `main` are what you would do with a model of your own. Nothing here
is about real people: every row is drawn from a random generator with a fixed seed.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.metrics import accuracy_score, roc_auc_score

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20_240_117
TRAINING_ROWS = 24_000
REFERENCE_ROWS = 3_000  # the first rows of the training table
HOLDOUT_ROWS = 1_000
LABEL = "defaulted"

# The model's columns, in order: the numbers first, then the categories. This order is the contract
# between the matrix that XGBoost sees, the header of the CSV files and signature.json.
NUMBERS = [
    "age",
    "income",
    "debt_ratio",
    "credit_score",
    "employment_years",
    "num_credit_lines",
    "num_late_payments",
    "credit_utilization",
    "loan_amount",
    "loan_term_months",
    "interest_rate",
    "savings_balance",
    "months_since_last_delinquency",
    "num_dependents",
]

# Each category with its effect on the log-odds of a default.
CATEGORIES = {
    "home_ownership": {"MORTGAGE": -0.12, "OTHER": 0.25, "OWN": -0.30, "RENT": 0.18},
    "loan_purpose": {
        "business": 0.40,
        "car": -0.15,
        "debt_consolidation": 0.12,
        "education": 0.00,
        "home_improvement": -0.08,
        "medical": 0.30,
        "vacation": 0.10,
    },
    "employment_type": {
        "contract": 0.15,
        "full_time": -0.15,
        "part_time": 0.25,
        "self_employed": 0.10,
        "unemployed": 0.85,
    },
    "marital_status": {"divorced": 0.12, "married": -0.10, "single": 0.05, "widowed": 0.00},
    "education": {
        "associate": 0.03,
        "bachelor": -0.10,
        "doctorate": -0.25,
        "high_school": 0.12,
        "master": -0.18,
        "primary": 0.25,
    },
    "region": {
        "central": 0.00,
        "east": 0.06,
        "mountain": -0.04,
        "north": -0.08,
        "northwest": -0.05,
        "south": 0.10,
        "southeast": 0.12,
        "west": -0.03,
    },
}
FEATURES = NUMBERS + list(CATEGORIES)

# Trees split on numbers, so a category goes in as a code: its place among the sorted names. The
# same table goes into signature.json, and callers of the packed model send names.
CODES = {column: {name: code for code, name in enumerate(sorted(names))} for column, names in CATEGORIES.items()}


# --- the table -----------------------------------------------------------------------------------


def pick(rng, rows, weights):
    """One name for each row; `weights` maps names to a number or to one number a row."""
    names = sorted(weights)
    cumulated = np.cumsum([np.broadcast_to(weights[name], rows) for name in names], axis=0)
    place = (rng.random(rows) * cumulated[-1] >= cumulated).sum(axis=0)
    return np.array(names, dtype=object)[np.minimum(place, len(names) - 1)]


def logistic(z):
    return 1 / (1 + np.exp(-z))


def make_table(rows, seed):
    """`rows` loans with their outcome. Two hidden factors, means and prudence, tie the columns together."""
    rng = np.random.default_rng(seed)
    means, prudence = rng.standard_normal(rows), rng.standard_normal(rows)
    t = pd.DataFrame(index=range(rows))

    # The person.
    t["age"] = np.clip(19 + rng.gamma(2.6, 8.8, rows), 18, 90).round()
    adult_years = t.age - 18
    t["education"] = pick(
        rng,
        rows,
        {
            "primary": 0.06 * np.exp(-0.9 * means),
            "high_school": 0.34 * np.exp(-0.4 * means),
            "associate": 0.15,
            "bachelor": 0.29 * np.exp(0.3 * means),
            "master": 0.13 * np.exp(0.6 * means),
            "doctorate": 0.03 * np.exp(0.8 * means) * (t.age > 25),
        },
    )
    t["employment_type"] = pick(
        rng,
        rows,
        {
            "full_time": 0.63 * np.exp(0.2 * means),
            "part_time": 0.10 * np.exp(-0.3 * means) * np.where(t.age < 26, 2.5, 1),
            "self_employed": 0.12 * np.where(t.age > 35, 1.4, 0.7),
            "contract": 0.09,
            "unemployed": 0.05 * np.exp(-0.6 * means),
        },
    )
    t["marital_status"] = pick(
        rng,
        rows,
        {
            "single": 0.75 * np.exp(-adult_years / 16),
            "married": 0.50 * (1 - np.exp(-adult_years / 9)),
            "divorced": 0.16 * (1 - np.exp(-adult_years / 22)),
            "widowed": 0.10 * np.clip((t.age - 45) / 40, 0.01, 1) ** 2,
        },
    )
    t["num_dependents"] = np.minimum(
        rng.poisson(np.where(t.marital_status == "married", 1.5, 0.5) * np.exp(-((t.age - 42) ** 2) / 700)), 9
    )
    t["region"] = pick(
        rng,
        rows,
        dict(zip(CATEGORIES["region"], [0.10, 0.17, 0.07, 0.12, 0.08, 0.16, 0.17, 0.13], strict=True)),
    )

    # Income is skewed: a log-normal whose mean follows schooling, years at work and employment.
    schooling = t.education.map(
        {"primary": -0.32, "high_school": -0.14, "associate": 0.0, "bachelor": 0.24, "master": 0.38, "doctorate": 0.5}
    )
    work = t.employment_type.map(
        {"full_time": 0.08, "part_time": -0.55, "self_employed": 0.05, "contract": -0.05, "unemployed": -1.0}
    )
    at_work = 0.55 * (1 - np.exp(-adult_years / 10)) - 0.012 * np.clip(t.age - 64, 0, None)
    t["income"] = (
        np.exp(10.38 + schooling + work + at_work + 0.26 * means + 0.30 * rng.standard_normal(rows))
        .round(-1)
        .clip(4_000)
    )
    t["employment_years"] = np.where(
        t.employment_type == "unemployed", 0, np.minimum(rng.exponential(6.8, rows), adult_years)
    ).round(1)
    t["savings_balance"] = np.where(
        rng.random(rows) < logistic(-2.2 - 0.8 * prudence),
        0,
        np.exp(8.3 + 0.6 * means + 0.6 * prudence + 0.012 * (t.age - 40) + 0.9 * rng.standard_normal(rows)).round(),
    )
    rich = np.log(t.income) - 10.9
    t["home_ownership"] = pick(
        rng,
        rows,
        {
            "RENT": 0.46 * np.exp(-0.5 * rich - 0.02 * (t.age - 40)),
            "MORTGAGE": 0.38 * np.exp(0.5 * rich) * np.clip((t.age - 20) / 15, 0.1, 1),
            "OWN": 0.13 * np.exp(0.03 * (t.age - 40) + 0.3 * rich),
            "OTHER": 0.03,
        },
    )

    # The credit history.
    t["num_credit_lines"] = rng.poisson(np.clip(2.2 + 0.11 * adult_years + 0.8 * rich, 0.4, 14))
    t["num_late_payments"] = np.minimum(rng.poisson(np.exp(-0.75 - 0.75 * prudence - 0.15 * means)), 24)
    t["credit_utilization"] = logistic(-0.75 - 0.75 * prudence - 0.25 * means + 0.75 * rng.standard_normal(rows)).round(
        4
    )
    t["debt_ratio"] = np.clip(
        np.exp(
            -1.15
            - 0.16 * prudence
            - 0.28 * rich
            + 0.10 * (t.home_ownership == "MORTGAGE")
            + 0.38 * rng.standard_normal(rows)
        ),
        0,
        2,
    ).round(4)
    ever_late = (t.num_late_payments > 0) | (rng.random(rows) < 0.10)
    t["months_since_last_delinquency"] = np.where(
        ever_late, np.minimum(np.floor(rng.exponential(30, rows)), 180), np.nan
    )
    t["credit_score"] = np.clip(
        702
        + 38 * prudence
        + 9 * means
        + 0.7 * (t.age - 40)
        - 13 * t.num_late_payments
        - 60 * (t.credit_utilization - 0.35)
        + 24 * rng.standard_normal(rows),
        300,
        850,
    ).round()

    # The loan.
    t["loan_purpose"] = pick(
        rng,
        rows,
        {
            "debt_consolidation": 0.40 * np.exp(0.9 * (t.credit_utilization - 0.35)),
            "home_improvement": 0.15 * np.where(t.home_ownership == "RENT", 0.1, 1.5),
            "car": 0.15,
            "medical": 0.09 * np.exp(0.01 * (t.age - 40)),
            "business": 0.07 * np.where(t.employment_type == "self_employed", 3, 1),
            "education": 0.07 * np.where(t.age < 30, 2.5, 0.6),
            "vacation": 0.06,
        },
    )
    size = t.loan_purpose.map({"business": 0.55, "home_improvement": 0.25, "vacation": -0.9, "medical": -0.5}).fillna(0)
    t["loan_amount"] = np.exp(9.35 + size + 0.55 * rich + 0.5 * rng.standard_normal(rows)).clip(500, 100_000).round(-2)
    longer = np.clip(np.log(t.loan_amount) - 9.3, -1.5, 1.5)
    t["loan_term_months"] = pick(
        rng,
        rows,
        {
            12: 0.06 * np.exp(-1.2 * longer),
            24: 0.14 * np.exp(-0.7 * longer),
            36: 0.42,
            48: 0.13 * np.exp(0.3 * longer),
            60: 0.21 * np.exp(0.7 * longer),
            72: 0.04 * np.exp(1.1 * longer),
        },
    ).astype(int)
    t["interest_rate"] = np.clip(
        11.2 - 0.034 * (t.credit_score - 700) + 0.03 * (t.loan_term_months - 36) + 1.5 * rng.standard_normal(rows),
        2.9,
        31,
    ).round(2)

    # Does it default? Main effects, then the interactions that make trees worth having.
    monthly = t.loan_amount / t.loan_term_months
    burden = t.debt_ratio + 12 * monthly / t.income
    z = (
        -2.45
        + 2.3 * (burden - 0.5)
        - 0.011 * (t.credit_score - 700)
        - 0.45 * rich
        + 0.30 * np.minimum(t.num_late_payments, 5)
        + 1.1 * (t.credit_utilization - 0.35)
        + 0.05 * (t.interest_rate - 11)
        - 0.06 * (np.log1p(t.savings_balance) - 7.5)
        - 0.02 * (np.minimum(t.employment_years, 15) - 5)
        + 0.06 * t.num_dependents
    )
    for column, effects in CATEGORIES.items():
        z += t[column].map(effects).astype(float)
    z += 0.9 * ((t.age < 26) & (t.loan_amount > 12_000))
    z += 1.0 * ((burden > 0.75) & (t.income < 40_000))
    z += 0.8 * ((t.months_since_last_delinquency < 12) & (t.credit_utilization > 0.6))
    z -= 0.7 * ((t.savings_balance > t.loan_amount) & (t.num_late_payments == 0))
    z += 0.6 * ((t.employment_type == "self_employed") & (t.loan_purpose == "business") & (t.employment_years < 3))
    outcome = (rng.random(rows) < logistic(z + 0.5 * rng.standard_normal(rows))).astype(int)

    # What nobody wrote down. (A delinquency that never happened is the fifth kind of empty cell.)
    def lose(column, chance):
        t[column] = t[column].astype(object if column in CATEGORIES else float)
        t.loc[rng.random(rows) < chance, column] = np.nan

    lose("credit_score", np.where(t.age < 24, 0.15, 0.03))  # a thin file
    lose("employment_years", np.where(t.employment_type == "self_employed", 0.10, 0.03))
    lose("savings_balance", 0.08)
    lose("education", 0.02)

    t = t[FEATURES].copy()
    t[LABEL] = outcome
    return t


def to_matrix(table):
    """The float matrix that the model sees: numbers as they are, categories as codes, missing as NaN."""
    columns = [table[c].astype(float) for c in NUMBERS] + [table[c].map(CODES[c]).astype(float) for c in CATEGORIES]
    return np.column_stack(columns).astype(np.float32)


# --- the files -----------------------------------------------------------------------------------


def text(value):
    """A cell: names as they are, numbers in their shortest form, nothing where the value is missing."""
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return ""
    return np.format_float_positional(np.float64(value), trim="-")


def write_table(path, table):
    lines = [",".join(table.columns)]
    lines += [",".join(text(value) for value in row) for row in table.itertuples(index=False, name=None)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_expected(path, labels, probabilities):
    # str() of a numpy float32 is the shortest text that reads back as the same float32.
    lines = ["prediction,probability_0,probability_1"]
    lines += [f"{label},{p0!s},{p1!s}" for label, (p0, p1) in zip(labels, probabilities, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def make_signature(table):
    """Overrides for `modelet pack`. Members that are left out are derived from the data.

    `allowed` is what a caller may send at all (outside it is an error); the range that was *seen*
    comes from reference.csv (outside it is a warning, and counted).
    """
    allowed = {
        "age": (18, 120),
        "income": (0, 100_000_000),
        "debt_ratio": (0, 10),
        "credit_score": (300, 850),
        "employment_years": (0, 80),
        "num_credit_lines": (0, 200),
        "num_late_payments": (0, 500),
        "credit_utilization": (0, 1),
        "loan_amount": (100, 1_000_000),
        "loan_term_months": (1, 480),
        "interest_rate": (0, 100),
        "months_since_last_delinquency": (0, 1_200),
        "num_dependents": (0, 30),
    }
    integers = {"num_credit_lines", "num_late_payments", "loan_term_months", "num_dependents"}
    features = []
    for column in FEATURES:
        if column in CATEGORIES:
            feature = {"name": column, "type": "category", "closed": True, "encoding": CODES[column]}
        else:
            feature = {"name": column, "type": "integer" if column in integers else "number"}
        if column in allowed:
            low, high = allowed[column]
            feature["allowed"] = {"min": low, "max": high}
        if table[column].isna().any():
            feature["nullable"] = True
        features.append(feature)
    return {
        "name": "credit",
        "version": "1.0.0",
        "task": "binary",
        "labels": [0, 1],
        "positive": 1,
        "features": features,
    }


def write_signature(path, signature):
    """One line a feature, which reads better than json.dumps(indent=2)."""
    head = {name: value for name, value in signature.items() if name != "features"}
    lines = ["{"] + [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    lines += ['  "features": [', ",\n".join("    " + json.dumps(f) for f in signature["features"]), "  ]", "}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    assert json.loads(path.read_text(encoding="utf-8")) == signature


def make_request(row):
    """A JSON body: names for categories, null (or nothing at all) for what is missing."""
    features = {}
    for column in FEATURES:
        value = row[column]
        if not isinstance(value, str):
            value = None if pd.isna(value) else float(value)
            value = int(value) if value is not None and value.is_integer() else value
        features[column] = value
    return {"features": features}


def main():
    # 1. The data. With a table of your own, keep the columns in the order the model was trained on.
    training = make_table(TRAINING_ROWS, SEED)
    holdout = make_table(HOLDOUT_ROWS, SEED + 1)
    x, y = to_matrix(training), training[LABEL].to_numpy()
    x_holdout, y_holdout = to_matrix(holdout), holdout[LABEL].to_numpy()
    print(f"{len(x)} training rows, {y.mean():.1%} defaulted; {len(x_holdout)} held out, {y_holdout.mean():.1%}")

    # 2. The model. Nothing here is for modelet's sake: XGBoost deals with NaN itself.
    model = xgboost.XGBClassifier(
        n_estimators=200,
        max_depth=6,
        learning_rate=0.05,
        min_child_weight=12,
        gamma=1.0,
        reg_lambda=2.0,
        subsample=0.8,
        colsample_bytree=0.6,
        tree_method="hist",
        nthread=1,  # one thread and a fixed seed: the same trees each time
        random_state=SEED % 1_000,
    )
    model.fit(x, y)

    # 3. The export: one input, a matrix of any number of rows. (Another library's exporter may ask
    #    whether to add a ZipMap, and for which opset; modelet takes either answer.)
    exported = convert_xgboost(
        model,
        name="credit",
        initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
        target_opset=15,
    )
    onnx.checker.check_model(exported)
    (HERE / "credit.onnx").write_bytes(exported.SerializeToString(deterministic=True))

    # 4. The checks. The export must answer as the library does *before* anything is packed: an error
    #    of the exporter looks like an error of every runtime. Note that the file on disk is tested.
    session = onnxruntime.InferenceSession(HERE / "credit.onnx", providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"features": x_holdout})
    theirs = model.predict_proba(x_holdout)
    print(f"AUC {roc_auc_score(y_holdout, theirs[:, 1]):.4f}, accuracy {accuracy_score(y_holdout, labels):.4f}")
    off = float(np.abs(probabilities - theirs).max())
    print(f"ONNX Runtime against XGBoost on the holdout: largest difference {off:.1e}")
    assert off < 1e-5 and (labels == model.predict(x_holdout)).all()

    # The reference goes out as text, so its expected answers are computed from that text, read back.
    reference = training.iloc[:REFERENCE_ROWS]
    write_table(HERE / "reference.csv", reference)
    write_table(HERE / "holdout.csv", holdout)
    read_back = pd.read_csv(HERE / "reference.csv", keep_default_na=False, na_values=[""])
    assert np.array_equal(to_matrix(read_back), x[:REFERENCE_ROWS], equal_nan=True)
    labels, probabilities = session.run(None, {"features": to_matrix(read_back)})
    off = float(np.abs(probabilities - model.predict_proba(x[:REFERENCE_ROWS])).max())
    print(f"ONNX Runtime against XGBoost on the reference: largest difference {off:.1e}")
    assert off < 1e-5 and (labels == model.predict(x[:REFERENCE_ROWS])).all()
    write_expected(HERE / "expected.csv", labels, probabilities)

    write_signature(HERE / "signature.json", make_signature(training))
    # A row that shows a bit of everything: never delinquent, so with a null.
    row = holdout[holdout.months_since_last_delinquency.isna() & holdout.credit_score.notna()].iloc[0]
    body = json.dumps(make_request(row), indent=2) + "\n"
    (HERE / "request.json").write_text(body, encoding="utf-8", newline="\n")

    for name in ["credit.onnx", "reference.csv", "holdout.csv", "expected.csv", "signature.json", "request.json"]:
        print(f"{(HERE / name).stat().st_size:9,}  {name}")


if __name__ == "__main__":
    main()
