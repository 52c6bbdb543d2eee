"""Tree ensembles, and a dense net, as other tools run them: the peers of the
bench part "trees".

    trees.py train FOLDER     trains the ensembles and writes what is needed to
                              run them; does nothing if that has been done
    trees.py measure FOLDER   times the peers, a round for each line of input

Both are started by `cargo xtask bench`, the second one by the measuring program,
which measures itself between the rounds. What goes over standard input and
output is one JSON document a line. First, unasked:

    {"versions": {...}, "call_us": 0.2,
     "missing": {"xgboost-100x6": {"tl2cgen": "why"}}}

Then for every {"model": "xgboost-100x6", "rows": 1} the time of each peer in
microseconds a row, {"onnxruntime": 5.1, ...}.
"""

import os

# Before any library reads it.
os.environ["OMP_NUM_THREADS"] = "1"

import ctypes
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES = [(100, 6), (200, 6), (500, 8)]
FEATURES = 30
TRAINING_ROWS = 20_000
# Rows to run the ensembles on; a batch has 1,000.
ROWS = 2_000
BATCH = 1_000
SEED = 7
# One more whenever training itself changes: models are kept until then.
TRAINING = 1
# Absolute, or relative where the answer is above 1.
TOLERANCE = 1e-5
PACKAGES = ["lightgbm", "lleaves", "onnxmltools", "onnxruntime", "tl2cgen", "xgboost"]

DENSE = "dense-30-256-256-1"
HIDDEN = 256

# Compiled trees called by C, which leaves the calls from Python out; and the
# dense net as C, for the compiler to make of it what it can.
CALLER = """
typedef void (*lleaves)(const double *, double *, int, int);
typedef void (*tl2cgen)(const void *, int, float *);

void nothing(const void *rows, void *answers) { (void)rows, (void)answers; }

void each_lleaves(lleaves run, const double *rows, double *answers, int from, int to) {
    for (int row = from; row < to; row++) run(rows, answers, row, row + 1);
}

void each_tl2cgen(tl2cgen run, const float *rows, int width, float *answers, int from, int to) {
    for (int row = from; row < to; row++) run(rows + (long)row * width, 0, answers + row);
}

static void layer(const float *x, int inner, const float *w, const float *b, float *out) {
    for (int j = 0; j < HIDDEN; j++) out[j] = 0;
    for (int k = 0; k < inner; k++)
        for (int j = 0; j < HIDDEN; j++) out[j] += x[k] * w[k * HIDDEN + j];
    for (int j = 0; j < HIDDEN; j++) {
        out[j] += b[j];
        out[j] = out[j] > 0 ? out[j] : 0;
    }
}

void each_dense(const float *rows, const float *w, float *answers, int from, int to) {
    const float *b1 = w + FEATURES * HIDDEN, *w2 = b1 + HIDDEN, *b2 = w2 + HIDDEN * HIDDEN, *w3 = b2 + HIDDEN;
    for (int row = from; row < to; row++) {
        float first[HIDDEN], second[HIDDEN], sum = 0;
        layer(rows + (long)row * FEATURES, FEATURES, w, b1, first);
        layer(first, HIDDEN, w2, b2, second);
        for (int k = 0; k < HIDDEN; k++) sum += second[k] * w3[k];
        answers[row] = sum + w3[HIDDEN];
    }
}
"""


def names():
    return [
        f"{library}-{trees}x{depth}"
        for library in ("xgboost", "lightgbm")
        for trees, depth in SIZES
    ] + [DENSE]


def versions():
    return {package: importlib.metadata.version(package) for package in PACKAGES}


# Training


def train(folder):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    x, y = data(random, TRAINING_ROWS)
    rows = write_rows(random, folder)
    attempt(lambda: compile_caller(folder))
    for library in ("xgboost", "lightgbm"):
        for trees, depth in SIZES:
            name = f"{library}-{trees}x{depth}"
            once(folder / name, lambda: train_one(folder / name, trees, depth, x, y, rows))
    once(folder / DENSE, lambda: make_dense(folder / DENSE, rows))


def once(stem, work):
    """Does the work unless the same has left its stamp."""
    settings = [TRAINING, versions(), FEATURES, TRAINING_ROWS, ROWS, SEED]
    stamp = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    done = Path(f"{stem}.stamp")
    if done.exists() and done.read_text() == stamp:
        return
    print(f"training {stem.name}", file=sys.stderr, flush=True)
    for old in stem.parent.glob(f"{stem.name}.*"):
        old.unlink()
    work()
    done.write_text(stamp)


def train_one(stem, trees, depth, x, y, rows):
    grow = train_xgboost if stem.name.startswith("xgboost") else train_lightgbm
    expected = grow(stem, trees, depth, x, y, rows)
    np.asarray(expected, dtype=np.float64).tofile(f"{stem}.expected.f64")


def data(random, count):
    """Features with four decimals, and a target that all of them have a part in."""
    x = np.round(random.normal(size=(count, FEATURES)), 4)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + np.abs(x[:, 3]) - (x[:, 4] > 0.5)
    y += x @ np.linspace(-0.3, 0.3, FEATURES) + random.normal(scale=0.5, size=count)
    return x.astype(np.float32), y


def write_rows(random, folder):
    """Writes the rows to run on, as text and as they are read from it.

    Thresholds are values of the training data, or lie halfway between two. No
    row has such a value, so that none depends on how a library rounds them."""
    x = np.round(random.normal(size=(ROWS, FEATURES)), 4) + 0.00002
    with open(folder / "rows.csv", "w") as file:
        print(",".join(f"feature_{i}" for i in range(FEATURES)), file=file)
        np.savetxt(file, x, fmt="%.5f", delimiter=",")
    rows = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1).astype(np.float32)
    rows.tofile(folder / "rows.f32")
    return rows


def train_xgboost(stem, trees, depth, x, y, rows):
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = xgboost.XGBRegressor(
        n_estimators=trees,
        max_depth=depth,
        learning_rate=0.1,
        base_score=0.5,
        tree_method="hist",
        n_jobs=1,
        random_state=SEED,
    ).fit(x, y)
    model.save_model(f"{stem}.json")
    inputs = [("x", FloatTensorType([None, FEATURES]))]
    onnx = onnxmltools.convert_xgboost(model, initial_types=inputs, target_opset=15)
    onnxmltools.utils.save_model(onnx, f"{stem}.onnx")
    write_classifier(onnx, f"{stem}.classifier.onnx")
    attempt(lambda: compile_tl2cgen(stem))
    return model.get_booster().inplace_predict(rows)


def write_classifier(regressor, path):
    """The same trees as a classifier whose second score is what the regressor
    answers: tract has no other operator for trees."""
    import onnx
    from onnx import helper

    [node] = [n for n in regressor.graph.node if n.op_type == "TreeEnsembleRegressor"]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    taken = {name: value for name, value in given.items() if name.startswith("nodes_")}
    taken["class_ids"] = [1] * len(given["target_ids"])
    for name in ("nodeids", "treeids", "weights"):
        taken[f"class_{name}"] = given[f"target_{name}"]
    taken["base_values"] = [0.0, *given.get("base_values", [0.0])]
    taken["classlabels_int64s"] = [0, 1]
    taken["post_transform"] = "NONE"
    outputs = ["label", "scores"]
    node = helper.make_node(
        "TreeEnsembleClassifier", list(node.input), outputs, domain="ai.onnx.ml", **taken
    )
    graph = helper.make_graph(
        [node],
        "trees",
        list(regressor.graph.input),
        [
            helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [None]),
            helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)])
    onnx.save(model, path)


def compile_tl2cgen(stem):
    import tl2cgen
    import treelite

    tl2cgen.export_lib(
        treelite.frontend.load_xgboost_model(f"{stem}.json"),
        toolchain="gcc",
        libpath=f"{stem}.so",
        params={"parallel_comp": 8},
    )


def train_lightgbm(stem, trees, depth, x, y, rows):
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    # As many leaves as a full tree of the depth has, where LightGBM likes them.
    model = lightgbm.LGBMRegressor(
        n_estimators=trees,
        num_leaves=2**depth,
        learning_rate=0.1,
        n_jobs=1,
        random_state=SEED,
        deterministic=True,
        verbose=-1,
    ).fit(x, y)
    model.booster_.save_model(f"{stem}.txt")
    inputs = [("x", FloatTensorType([None, FEATURES]))]
    onnx = onnxmltools.convert_lightgbm(model, initial_types=inputs, target_opset=15)
    onnxmltools.utils.save_model(onnx, f"{stem}.onnx")
    write_classifier(onnx, f"{stem}.classifier.onnx")
    attempt(lambda: load_lleaves(stem))
    return model.booster_.predict(rows.astype(np.float64), num_threads=1)


def load_lleaves(stem):
    """Compiles the model, or takes what an earlier call compiled."""
    import lleaves

    model = lleaves.Model(model_file=f"{stem}.txt")
    model.compile(cache=f"{stem}.lleaves")
    return model


def make_dense(stem, rows):
    """A net of random weights: what they are does not matter to how long it
    takes."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(SEED)
    widths = [FEATURES, HIDDEN, HIDDEN, 1]
    layers = [
        (
            random.normal(scale=inner**-0.5, size=(inner, outer)).astype(np.float32),
            random.normal(scale=0.1, size=outer).astype(np.float32),
        )
        for inner, outer in zip(widths, widths[1:])
    ]
    nodes, weights, value, x = [], [], "x", rows.astype(np.float64)
    for i, (w, b) in enumerate(layers):
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"sum{i}"]))
        value, x = f"sum{i}", x @ w.astype(np.float64) + b
        if i + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [value], [f"out{i}"]))
            value, x = f"out{i}", np.maximum(x, 0)
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, [None, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, f"{stem}.onnx")
    np.concatenate([np.ravel(part) for layer in layers for part in layer]).tofile(f"{stem}.weights.f32")
    np.ravel(x).tofile(f"{stem}.expected.f64")


def compile_caller(folder):
    source = folder / "caller.c"
    source.write_text(f"enum {{ FEATURES = {FEATURES}, HIDDEN = {HIDDEN} }};\n{CALLER}")
    command = ["cc", "-O3", "-mavx2", "-mfma", "-shared", "-fPIC", "-o", folder / "caller.so", source]
    subprocess.run(command, check=True)


def attempt(work):
    """A peer that can't be compiled is missing from the table."""
    try:
        work()
    except Exception as error:
        print(f"  {first_line(error)}", file=sys.stderr, flush=True)


def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


# Peers: a function for a model, which takes `single`, whether rows come one by
# one, and returns two functions: one that runs the rows from a number up to
# another, and one that gives the answers to all rows after that was done.
# Inputs are laid out beforehand as the peer likes them best.


class Peer:
    """Runs what `call` does with each of `inputs`, of `size` rows."""

    def __init__(self, inputs, call):
        self.inputs, self.call = inputs, call

    def run(self):
        call = self.call
        for x in self.inputs:
            call(x)

    def answers(self):
        return np.concatenate([np.ravel(self.call(x)) for x in self.inputs])


class CalledByC:
    """Runs all inputs in one call of a C function."""

    def __init__(self, call, answers):
        self.run, self.out = call, answers

    def answers(self):
        self.run()
        return self.out


def parts(rows, size):
    """The single rows are those of the first batch."""
    count = BATCH if size == 1 else len(rows)
    return [np.ascontiguousarray(rows[i : i + size]) for i in range(0, count, size)]


def onnxruntime_peer(stem, rows, size, _caller):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        f"{stem}.onnx", options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    feeds = [{name: x} for x in parts(rows, size)]
    return Peer(feeds, lambda feed: session.run(None, feed)[0])


def xgboost_peer(stem, rows, size, _caller):
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=f"{stem}.json")
    return Peer(parts(rows, size), booster.inplace_predict)


def lightgbm_peer(stem, rows, size, _caller):
    import lightgbm

    booster = lightgbm.Booster(model_file=f"{stem}.txt")
    inputs = parts(rows.astype(np.float64), size)
    return Peer(inputs, lambda x: booster.predict(x, num_threads=1))


def lleaves_peer(stem, rows, size, _caller):
    model = load_lleaves(stem)
    inputs = parts(rows.astype(np.float64), size)
    return Peer(inputs, lambda x: model.predict(x, n_jobs=1))


def lleaves_from_c(stem, rows, size, caller):
    model = load_lleaves(stem)
    rows = np.ascontiguousarray(rows.astype(np.float64))
    answers = np.zeros(BATCH if size == 1 else len(rows))
    run = ctypes.cast(model._c_entry_func, ctypes.c_void_p)
    x, y = rows.ctypes.data_as(ctypes.c_void_p), answers.ctypes.data_as(ctypes.c_void_p)

    def call(model=model, rows=rows):  # both are held by this
        if size == 1:
            caller.each_lleaves(run, x, y, 0, len(answers))
        else:
            for start in range(0, len(answers), size):
                model._c_entry_func(
                    ctypes.cast(x, ctypes.POINTER(ctypes.c_double)),
                    ctypes.cast(y, ctypes.POINTER(ctypes.c_double)),
                    start,
                    start + size,
                )

    return CalledByC(call, answers)


def tl2cgen_peer(stem, rows, size, _caller):
    import tl2cgen

    predictor = tl2cgen.Predictor(f"{stem}.so", nthread=1)
    inputs = [tl2cgen.DMatrix(x, missing=float("nan")) for x in parts(rows, size)]
    return Peer(inputs, predictor.predict)


def tl2cgen_from_c(stem, rows, size, caller):
    library = ctypes.CDLL(f"{stem}.so")
    # The entries of a row are unions of a number and -1 where it is missing;
    # the same bits for numbers.
    rows = np.ascontiguousarray(rows)
    answers = np.zeros(BATCH if size == 1 else len(rows), dtype=np.float32)
    run = ctypes.cast(library.predict, ctypes.c_void_p)
    x, y = rows.ctypes.data_as(ctypes.c_void_p), answers.ctypes.data_as(ctypes.c_void_p)

    def call(library=library, rows=rows):  # both are held by this
        caller.each_tl2cgen(run, x, rows.shape[1], y, 0, len(answers))

    return CalledByC(call, answers)


def dense_from_c(stem, rows, size, caller):
    rows = np.ascontiguousarray(rows)
    weights = np.fromfile(f"{stem}.weights.f32", dtype=np.float32)
    answers = np.zeros(BATCH if size == 1 else len(rows), dtype=np.float32)
    x, w, y = (array.ctypes.data_as(ctypes.c_void_p) for array in (rows, weights, answers))

    def call(rows=rows, weights=weights):  # both are held by this
        caller.each_dense(x, w, y, 0, len(answers))

    return CalledByC(call, answers)


PEERS = {
    "dense": {"onnxruntime": onnxruntime_peer, "compiled, from C": dense_from_c},
    "xgboost": {
        "onnxruntime": onnxruntime_peer,
        "own": xgboost_peer,
        "compiled": tl2cgen_peer,
        "compiled, from C": tl2cgen_from_c,
    },
    "lightgbm": {
        "onnxruntime": onnxruntime_peer,
        "own": lightgbm_peer,
        "compiled": lleaves_peer,
        "compiled, from C": lleaves_from_c,
    },
}


# Measuring


def measure(folder):
    rows = np.fromfile(folder / "rows.f32", dtype=np.float32).reshape(-1, FEATURES)
    caller = None
    if (folder / "caller.so").exists():
        caller = ctypes.CDLL(str(folder / "caller.so"))
    ready, missing = {}, {}
    for name in names():
        expected = np.fromfile(folder / f"{name}.expected.f64")
        for peer, make in PEERS[name.split("-")[0]].items():
            try:
                made = {size: make(str(folder / name), rows, size, caller) for size in (1, BATCH)}
            except Exception as error:
                missing.setdefault(name, {})[peer] = first_line(error)
                continue
            for size, runner in made.items():
                check(f"{peer}, {name}, {size} rows", runner.answers(), expected)
                ready.setdefault((name, size), {})[peer] = runner
    say({"versions": versions(), "call_us": call_us(caller, rows), "missing": missing})
    for line in sys.stdin:
        asked = json.loads(line)
        size = asked["rows"]
        peers = ready.get((asked["model"], size), {})
        say({peer: time_us(runner, BATCH if size == 1 else len(rows)) for peer, runner in peers.items()})


def check(what, answers, expected):
    expected = expected[: len(answers)]
    allowed = TOLERANCE * np.maximum(1, np.abs(expected))
    off = np.abs(answers - expected) / allowed
    if not (off <= 1).all():
        raise SystemExit(f"{what}: row {off.argmax()} is {off.max():.1f} times the tolerance off")


def time_us(runner, rows):
    start = time.perf_counter_ns()
    runner.run()
    return (time.perf_counter_ns() - start) / 1e3 / rows


def call_us(caller, rows):
    """What it takes to call a C function that does nothing with two arrays."""
    if caller is None:
        return None
    x = rows.ctypes.data_as(ctypes.c_void_p)
    calls, times = 10_000, []
    for _ in range(20):
        start = time.perf_counter_ns()
        for _ in range(calls):
            caller.nothing(x, x)
        times.append((time.perf_counter_ns() - start) / 1e3 / calls)
    return float(np.median(times))


def say(document):
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", folder]:
            train(Path(folder))
        case ["measure", folder]:
            measure(Path(folder))
        case _:
            raise SystemExit(__doc__)
