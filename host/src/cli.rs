//! The command line as it is typed. What it means is decided in
//! [`commands`](crate::commands).

use crate::data::Format;
use crate::output::ColorChoice;
use crate::serve::{LogFormat, ServeConfig};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use modelet::drift::report::Thresholds;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Packs a trained model as one WebAssembly component, and runs it.
#[derive(Clone, Debug, Parser)]
#[command(name = "modelet", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// Write answers and errors only: no progress, no notes
    #[arg(short, long, global = true, display_order = 100)]
    pub quiet: bool,
    /// When to write in colour; auto looks at the terminal and at NO_COLOR
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        display_order = 101
    )]
    pub color: ColorChoice,
}

const EXAMPLES: &str = "\
Examples:
  modelet pack model.onnx --data train.csv --label target -o model.wasm
  modelet serve model.wasm
  modelet score model.wasm rows.csv -o predictions.csv

Exit status: 0 good, 1 failed, 2 wrong usage, 3 a check said no, 64 wrong configuration.";

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Tell what would be packed: operators, inputs, outputs, engine
    #[command(after_help = CHECK)]
    Check(CheckArgs),
    /// Pack an ONNX model as one component
    #[command(after_help = PACK)]
    Pack(PackArgs),
    /// Show what is in a packed model
    #[command(after_help = INSPECT)]
    Inspect(InspectArgs),
    /// Answer one request
    #[command(after_help = PREDICT)]
    Predict(PredictArgs),
    /// Answer every row of a file
    #[command(after_help = SCORE)]
    Score(ScoreArgs),
    /// Hold a model, or an endpoint, against the answers it was packed with
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
    /// Hold the rows of a file against the reference: has the data drifted?
    #[command(after_help = DRIFT)]
    Drift(DriftArgs),
    /// Serve packed models over HTTP
    #[command(after_help = SERVE)]
    Serve(ServeArgs),
    /// Look at a configuration
    #[command(after_help = CONFIG, subcommand_required = true, arg_required_else_help = true)]
    Config(ConfigArgs),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS)]
    Completions(CompletionsArgs),
}

const CHECK: &str = "\
Examples:
  modelet check model.onnx
  modelet check model.onnx --json | jq .operators

Exit status: 0 when the model can be packed, 1 when it can't.";

/// `modelet check`
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The ONNX model
    #[arg(value_name = "MODEL.onnx", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// Write the report as JSON
    #[arg(long)]
    pub json: bool,
}

const PACK: &str = "\
Examples:
  modelet pack model.onnx -o model.wasm
  modelet pack model.onnx --data train.csv --label target -o model.wasm
  modelet pack model.onnx --data train.parquet --expected onnxruntime.csv -o model.wasm

The bundle for browsers is written beside the component: model.bundle. The same
inputs give the same bytes.";

/// `modelet pack`
#[derive(Clone, Debug, Args)]
pub struct PackArgs {
    /// The ONNX model
    #[arg(value_name = "MODEL.onnx", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// Reference data, from which names, types, ranges and bins are taken:
    /// .csv, .parquet, .ndjson
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub data: Option<PathBuf>,
    /// The column of the data that is the truth and no feature
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub label: Option<String>,
    /// Rows that the model was not trained on, for the reference of its scores
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub holdout: Option<PathBuf>,
    /// How good the model is on rows that it was not trained on, again for
    /// further figures [default: measured on --holdout, if that has the label]
    #[arg(long, value_name = "NAME=NUMBER", value_parser = figure)]
    pub baseline: Vec<(String, f64)>,
    /// Answers that the rows of --data must get, in order: columns as score
    /// writes them
    #[arg(long, value_name = "FILE", requires = "data", value_hint = ValueHint::FilePath)]
    pub expected: Option<PathBuf>,
    /// The largest difference from expected numbers, absolute or relative,
    /// whichever is less; labels must be equal
    #[arg(long, value_name = "NUMBER", default_value = "1e-5", value_parser = tolerance, allow_negative_numbers = true)]
    pub tolerance: f64,
    /// What becomes of features that the model does not have [default: error,
    /// or as the signature says]
    #[arg(long, value_name = "WHAT")]
    pub unknown: Option<UnknownArg>,
    /// The version of WASI: 0.3, or the portable 0.2
    #[arg(long, value_name = "VERSION", default_value = "0.3")]
    pub wasi: WasiArg,
    /// The model's name [default: the file's]
    #[arg(long)]
    pub name: Option<String>,
    /// The model's version [default: 1.0.0]
    #[arg(long, value_name = "VERSION")]
    pub model_version: Option<String>,
    /// What the data can't tell of the features: allowed ranges, encodings
    #[arg(long, value_name = "signature.json", value_hint = ValueHint::FilePath)]
    pub signature: Option<PathBuf>,
    /// Overwrite the output
    #[arg(short, long)]
    pub force: bool,
    /// Write the report as JSON
    #[arg(long)]
    pub json: bool,
    /// The component to write
    #[arg(short, long, value_name = "OUT.wasm", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
}

/// `--unknown`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnknownArg {
    /// They are faults
    Error,
    /// They are passed over
    Ignore,
}

/// `--wasi`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WasiArg {
    /// For this host, Spin 4.1 and the wasmtime command line
    #[value(name = "0.3")]
    V0_3,
    /// For Spin 3 and 4.0, SpinKube and wasmCloud
    #[value(name = "0.2")]
    V0_2,
}

fn figure(text: &str) -> Result<(String, f64), String> {
    let wrong = || "expected a name and a number, such as accuracy=0.81".to_owned();
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && !name.trim().is_empty() => Ok((name.trim().to_owned(), number)),
        _ => Err(wrong()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let numbered = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numbered
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:3000 or [::1]:3000".into())
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number from 0, such as 1e-5".into()),
    }
}

const INSPECT: &str = "\
Examples:
  modelet inspect model.wasm
  modelet inspect model.wasm --json | jq '.features[].name'";

/// `modelet inspect`
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// The packed model
    #[arg(value_name = "MODEL.wasm", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// Write the manifest, hashes and sizes as JSON
    #[arg(long)]
    pub json: bool,
}

const PREDICT: &str = "\
Examples:
  modelet predict model.wasm --input '{\"income\": 75000, \"debt_ratio\": 0.35}'
  modelet predict model.wasm request.json
  curl -s https://example.org/request.json | modelet predict model.wasm -

The request is {\"features\": {...}}, or the features' object alone.";

/// `modelet predict`
#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// The packed model
    #[arg(value_name = "MODEL.wasm", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// A file with the request, or - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The request itself
    #[arg(short, long, value_name = "JSON", conflicts_with = "file")]
    pub input: Option<String>,
    /// An id that is written into the answer
    #[arg(long)]
    pub id: Option<String>,
}

const SCORE: &str = "\
Examples:
  modelet score model.wasm rows.csv -o predictions.csv
  modelet score model.wasm rows.parquet -o predictions.parquet --on-error null
  cat rows.csv | modelet score model.wasm - > predictions.csv

The predictions have one row for each row of the file, in order: the id, then
`prediction`, then `probability_<label>` or `score_<label>` for each class.
Columns of the file that are no features are left out.";

/// `modelet score`
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// The packed model
    #[arg(value_name = "MODEL.wasm", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// The rows: .csv, .parquet, .ndjson, or - for standard input
    #[arg(value_name = "ROWS", value_hint = ValueHint::FilePath)]
    pub rows: PathBuf,
    /// The predictions: .csv, .parquet, .ndjson, or - for standard output
    #[arg(short, long, value_name = "PREDICTIONS", default_value = "-", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// How the rows are written [default: by the file's extension; csv for -]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// How to write the predictions [default: by the file's extension; csv for -]
    #[arg(long, value_name = "FORMAT")]
    pub output_format: Option<Format>,
    /// The column that is copied before the predictions [default: the one
    /// named id, if it is no feature]
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// What becomes of a row that the model does not accept
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub on_error: OnBadRow,
}

/// `--on-error`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadRow {
    /// No file is written, and the row and the reason are told; what standard output already got stays
    Stop,
    /// It is left out of the predictions
    Skip,
    /// Its predictions are empty
    Null,
}

const VERIFY: &str = "\
Examples:
  modelet verify model.wasm
  modelet verify model.wasm --url http://127.0.0.1:3000

Exit status: 0 when every answer is equal to the last bit, 3 when one differs.";

/// `modelet verify`
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The packed model
    #[arg(value_name = "MODEL.wasm", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// Ask the endpoint at this address in place of the component; /predict is
    /// appended, and only plain http is spoken
    #[arg(long, value_name = "http://HOST:PORT", value_hint = ValueHint::Url)]
    pub url: Option<String>,
    /// Write the report as JSON
    #[arg(long)]
    pub json: bool,
}

const DRIFT: &str = "\
Examples:
  modelet drift model.wasm current.csv
  modelet drift model.wasm current.parquet --html report.html
  modelet drift model.wasm current.csv --label defaulted --json | jq .performance

The rows are counted in the bins that were frozen when the model was packed, as
a server counts them. Exit status: 0 when no feature, label or score drifted, 3
when one did, 1 when the rows can't be compared: too few of them or of the
reference, all rejected, or no reference. Data quality and performance are
in the report: jq -e '.quality != \"bad\" and .performance.worse == null'.";

/// `modelet drift`
#[derive(Clone, Debug, Args)]
pub struct DriftArgs {
    /// The packed model
    #[arg(value_name = "MODEL.wasm", value_hint = ValueHint::FilePath)]
    pub model: PathBuf,
    /// The rows: .csv, .parquet, .ndjson, or - for standard input
    #[arg(value_name = "CURRENT", value_hint = ValueHint::FilePath)]
    pub rows: PathBuf,
    /// How the rows are written [default: by the file's extension; csv for -]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The column that holds the truth: tells how good the predictions are
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// A drifted feature alerts from this PSI on
    #[arg(long, value_name = "NUMBER", default_value_t = Thresholds::default().psi, value_parser = positive, allow_negative_numbers = true)]
    pub threshold: f64,
    /// Write a page for the browser; `-` for standard output, in place of the
    /// table
    #[arg(long, value_name = "REPORT.html", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// Write the report as JSON, as GET /drift has it
    #[arg(long)]
    pub json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0, such as 0.1".into()),
    }
}

const SERVE: &str = "\
Examples:
  modelet serve model.wasm
  modelet serve credit.wasm fraud.wasm --listen 127.0.0.1:8080
  modelet serve model.wasm --listen 0.0.0.0:3000 --insecure

The first model answers at /, every one at /models/<name>/. SIGINT or SIGTERM
finishes the requests in flight. Exit status 64: the configuration is wrong.";

/// `modelet serve`
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The packed models
    #[arg(value_name = "MODEL.wasm", required = true, value_hint = ValueHint::FilePath)]
    pub models: Vec<PathBuf>,
    /// An address to listen at, again for further ones; port 0 lets the system
    /// choose [default: 127.0.0.1:3000]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "MODELET_LISTEN",
        value_delimiter = ',',
        value_parser = address,
        hide_env_values = true
    )]
    pub listen: Vec<SocketAddr>,
    /// Whether requests share warm instances
    #[arg(long, value_name = "HOW", default_value = "pooled")]
    pub isolate: IsolateArg,
    /// Listen where other machines reach, though there is no authentication
    #[arg(long)]
    pub insecure: bool,
    /// The most bytes of a request's body
    #[arg(long, value_name = "BYTES", default_value_t = ServeConfig::default().body_bytes_max)]
    pub body_bytes_max: usize,
    /// The most rows of a batch
    #[arg(long, value_name = "ROWS", default_value_t = ServeConfig::default().batch_rows_max)]
    pub batch_rows_max: u32,
    /// The longest that a model may take for a request, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = ServeConfig::default().deadline_ms)]
    pub deadline_ms: u64,
    /// The most memory of an instance, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = ServeConfig::default().instance_memory_bytes_max)]
    pub memory_bytes_max: usize,
    /// How long to wait for requests in flight when stopping, in seconds
    #[arg(long, value_name = "S", default_value_t = ServeConfig::default().drain_timeout_ms / 1000)]
    pub drain_timeout_s: u64,
    /// Write no line for each request
    #[arg(long)]
    pub no_access_log: bool,
    /// Which events are logged, such as warn or modelet_host=debug
    #[arg(long, value_name = "FILTER", env = "MODELET_LOG", default_value_t = ServeConfig::default().log_filter, hide_env_values = true)]
    pub log: String,
    /// How they are written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "MODELET_LOG_FORMAT",
        default_value = "json",
        hide_env_values = true
    )]
    pub log_format: LogFormatArg,
    /// What is monitored, who is told, when a new model is asked for
    #[arg(long, value_name = "modelet.toml", env = "MODELET_CONFIG", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where the monitor keeps its state: a file, redis://HOST:PORT/DB for a
    /// fleet, or memory [default: a file of this user for the first address]
    #[arg(long, value_name = "STORE", env = "MODELET_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// Do not watch the models: no drift, no feedback, no alerts
    #[arg(long)]
    pub no_monitor: bool,
    /// Keep no compiled code on disk: compile at every start
    #[arg(long)]
    pub no_cache: bool,
}

/// `--isolate`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsolateArg {
    /// Warm instances are used again
    Pooled,
    /// Each request has a new instance
    Request,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// One JSON object a line
    Json,
    /// One line of text, for people
    Text,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> LogFormat {
        match format {
            LogFormatArg::Json => LogFormat::Json,
            LogFormatArg::Text => LogFormat::Text,
        }
    }
}

const CONFIG: &str = "\
Examples:
  modelet config check modelet.toml
  modelet config check modelet.toml --json | jq '.config.monitor.rules[].name'

Exit status: 0 when the configuration is right, 64 when it is wrong.";

/// `modelet config`
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// What to do with it
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// A command on a configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell what is understood of a configuration, or all that is wrong in it
    #[command(after_help = CONFIG)]
    Check(ConfigCheckArgs),
}

/// `modelet config check`
#[derive(Clone, Debug, Args)]
pub struct ConfigCheckArgs {
    /// The configuration
    #[arg(value_name = "modelet.toml", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Write what is understood, or the errors, as JSON
    #[arg(long)]
    pub json: bool,
}

const COMPLETIONS: &str = "\
Examples:
  modelet completions bash > ~/.local/share/bash-completion/completions/modelet
  modelet completions zsh > ~/.zfunc/_modelet
  modelet completions fish > ~/.config/fish/completions/modelet.fish";

/// `modelet completions`
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:\n  "), "{}", command.get_name());
            assert!(
                help.contains(&format!("modelet {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn wrong_usage_is_status_2() {
        struct Case(&'static str, i32);
        for Case(line, status) in [
            Case("modelet", 2),
            Case("modelet --help", 0),
            Case("modelet --version", 0),
            Case("modelet no-such-command", 2),
            Case("modelet pack m.onnx", 2),
            Case("modelet pack m.onnx -o m.wasm --tolerance=-1", 2),
            Case("modelet pack m.onnx -o m.wasm --wasi 0.1", 2),
            Case("modelet pack m.onnx -o m.wasm --label y", 2),
            Case("modelet drift m.wasm", 2),
            Case("modelet drift m.wasm rows.csv --threshold 0", 2),
            Case("modelet serve", 2),
            Case("modelet config", 2),
            Case("modelet config check", 2),
            Case("modelet config check --help", 0),
            Case("modelet serve m.wasm --listen nowhere", 2),
            Case("modelet predict m.wasm request.json --input {}", 2),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), status, "{line}");
        }
    }
}
