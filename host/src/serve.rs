//! `modelet serve`: from packed models to a server that stops when it is told
//! to and finishes what it has begun.

mod log;

pub use log::LogFormat;

use crate::artifact::Artifact;
use crate::folders;
use crate::http::{HttpLimits, Served, Server};
use crate::monitor::Monitor;
use crate::monitor::config::Config;
use crate::monitor::store::{self, Store};
use crate::monitor::watch::{WatchConfig, Watched};
use crate::runtime::{CodeCaching, Isolation, Loaded, Runtime, RuntimeConfig};
use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The largest part of a request that one read takes from a connection.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Headers of HTTP/2 together.
const HTTP2_HEADER_BYTES_MAX: u32 = 32 << 10;
const HTTP2_STREAMS_MAX: u32 = 256;
/// How often a silent HTTP/2 connection is asked whether it is still there.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long accepting pauses when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_BACKLOG: u32 = 1024;
const WARM_UP_CALLS: usize = 3;

/// How models are served. [`ServeConfig::check`] says whether it can be done.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Addresses to listen at; port 0 lets the system choose. Default:
    /// 127.0.0.1:3000.
    pub listen: Vec<SocketAddr>,
    /// Listen at addresses that other machines reach, though there is no
    /// authentication yet. Default: no.
    pub insecure: bool,
    /// Whether requests share instances. Default: pooled.
    pub isolation: Isolation,
    /// The most bytes of a request's body. Default: 16 MiB.
    pub body_bytes_max: usize,
    /// The most bytes that bodies too large for one read may need together.
    /// Default: 512 MiB.
    pub bodies_bytes_max: usize,
    /// The most records of a batch. Default: 100,000, as in every home.
    pub batch_rows_max: u32,
    /// The most connections at a time; further ones wait. Default: 8,192.
    pub connections_max: usize,
    /// The longest that a request's head may take to arrive, and the longest
    /// that a connection may be silent between requests, in milliseconds.
    /// Default: 30,000.
    pub header_read_timeout_ms: u64,
    /// The longest that a request's body may take to arrive, in milliseconds.
    /// Default: 30,000.
    pub body_read_timeout_ms: u64,
    /// The longest that a request may wait for others to finish, in
    /// milliseconds. Default: 10,000.
    pub queue_timeout_ms: u64,
    /// The longest that a model may take for one request, in milliseconds.
    /// Default: 30,000.
    pub deadline_ms: u64,
    /// The most memory of one instance, in bytes. Default: 512 MiB.
    pub instance_memory_bytes_max: usize,
    /// The most instances alive at once, over all models. Default: 128.
    pub instances_max: u32,
    /// How long a stopping server waits for requests in flight, in
    /// milliseconds. Default: 30,000.
    pub drain_timeout_ms: u64,
    /// Where compiled code is kept.
    pub cache: CodeCaching,
    /// How models are monitored; not at all if none.
    pub monitor: Option<Config>,
    /// Where the monitor keeps its state.
    pub store: StoreChoice,
    /// Write a line for every request. Default: yes.
    pub access_log: bool,
    /// Which events are logged, as `RUST_LOG` has it. Default: `info`.
    pub log_filter: String,
    /// How they are written. Default: JSON.
    pub log_format: LogFormat,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        let runtime = RuntimeConfig::default();
        ServeConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 3000))],
            insecure: false,
            isolation: runtime.isolation,
            body_bytes_max: 16 << 20,
            bodies_bytes_max: 512 << 20,
            batch_rows_max: modelet::api::ROWS_MAX,
            connections_max: 8_192,
            header_read_timeout_ms: 30_000,
            body_read_timeout_ms: 30_000,
            queue_timeout_ms: 10_000,
            deadline_ms: runtime.deadline_ms,
            instance_memory_bytes_max: runtime.instance_memory_bytes_max,
            instances_max: runtime.instances_max,
            drain_timeout_ms: 30_000,
            cache: runtime.cache,
            monitor: Some(Config::default()),
            store: StoreChoice::Default,
            access_log: true,
            log_filter: "info".into(),
            log_format: LogFormat::Json,
        }
    }
}

/// Where the monitor keeps its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreChoice {
    /// A file of this user's for the first address: `$XDG_STATE_HOME/modelet`
    /// or `~/.local/state/modelet`. Memory, where there is none, or where the
    /// system chooses the port.
    #[default]
    Default,
    /// What the text names: a file, `redis://...`, or `memory`.
    At(String),
}

/// A configuration that can't be served. The process exits with status 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl ServeConfig {
    /// Looks for what can't be served, before anything is loaded or bound.
    ///
    /// # Errors
    /// When there is nowhere to listen, an address is open to others without
    /// `insecure`, a limit lets nothing pass, or the store's address is none.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| Err(ConfigError(what));
        if self.listen.is_empty() {
            return wrong("there is no address to listen at".into());
        }
        if let Some(open) = self.listen.iter().find(|address| !address.ip().is_loopback())
            && !self.insecure
        {
            return wrong(format!(
                "{open} can be reached from other machines and there is no authentication: \
                 listen at a loopback address, or say --insecure"
            ));
        }
        let limits = [
            ("body_bytes_max", self.body_bytes_max as u64),
            ("bodies_bytes_max", self.bodies_bytes_max as u64),
            ("batch_rows_max", self.batch_rows_max.into()),
            ("connections_max", self.connections_max as u64),
            ("header_read_timeout_ms", self.header_read_timeout_ms),
            ("body_read_timeout_ms", self.body_read_timeout_ms),
            ("queue_timeout_ms", self.queue_timeout_ms),
            ("deadline_ms", self.deadline_ms),
            ("instance_memory_bytes_max", self.instance_memory_bytes_max as u64),
            ("instances_max", self.instances_max.into()),
        ];
        if let Some((name, _)) = limits.into_iter().find(|&(_, value)| value == 0) {
            return wrong(format!("{name} must be at least 1"));
        }
        if self.instance_memory_bytes_max > u32::MAX as usize {
            return wrong("instance_memory_bytes_max must be below 4 GiB".into());
        }
        if self.connections_max > Semaphore::MAX_PERMITS {
            return wrong(format!("connections_max must be at most {}", Semaphore::MAX_PERMITS));
        }
        if let (Some(_), StoreChoice::At(spec)) = (&self.monitor, &self.store) {
            store::Address::parse(spec).map_err(|error| ConfigError(error.to_string()))?;
        }
        log::filter(self)?;
        Ok(())
    }

    fn runtime(&self) -> RuntimeConfig {
        RuntimeConfig {
            isolation: self.isolation,
            instance_memory_bytes_max: self.instance_memory_bytes_max,
            instances_max: self.instances_max,
            deadline_ms: self.deadline_ms,
            cache: self.cache.clone(),
            progress: |what| tracing::info!("{what}"),
            ..RuntimeConfig::default()
        }
    }

    fn http(&self) -> HttpLimits {
        HttpLimits {
            body_bytes_max: self.body_bytes_max,
            bodies_bytes_max: self.bodies_bytes_max,
            batch_rows_max: self.batch_rows_max,
            body_read_timeout: Duration::from_millis(self.body_read_timeout_ms),
            queue_timeout: Duration::from_millis(self.queue_timeout_ms),
            long_calls_max: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Serves packed models until SIGINT or SIGTERM, then finishes what is in
/// flight; a second signal stops at once. The first model is at the root, all
/// are at `/models/<name>`.
///
/// Once the models are loaded, one line for each address goes to standard
/// output: `listening on http://127.0.0.1:3000`.
///
/// # Errors
/// [`ConfigError`] for what [`ServeConfig::check`] finds and for models that
/// can't be told apart; otherwise when a model can't be loaded or an address
/// not be bound.
pub async fn serve(artifacts: Vec<PathBuf>, config: ServeConfig) -> anyhow::Result<()> {
    config.check()?;
    let _log = log::start(&config)?;
    // This process among those that share its store.
    let writer = uuid::Uuid::now_v7().simple().to_string();
    let (loading, loading_writer) = (config.clone(), writer.clone());
    // Compiling keeps a thread busy for seconds, during which a signal should
    // still be heard.
    let loading = tokio::task::spawn_blocking(move || load(&artifacts, &loading, &loading_writer));
    let mut signals = Signals::new()?;
    // Bound before and opened after loading: an address in use is told at
    // once, and no client waits for a model that compiles.
    let sockets = config
        .listen
        .iter()
        .map(|&address| bind(address))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (models, store) = tokio::select! {
        loaded = loading => loaded??,
        () = signals.next() => return Ok(()),
    };
    let monitor = match &config.monitor {
        Some(monitor) => {
            let watched = models.iter().filter_map(Served::watched).cloned().collect();
            let store = store.context("the monitor has no store")?;
            let monitor = Monitor::start(watched, store, monitor.clone(), &writer).map_err(ConfigError)?;
            Some(Arc::new(monitor))
        }
        None => None,
    };
    let server = Arc::new(Server::new(models, &config.http(), monitor.clone()));
    let (stop, stopped) = watch::channel(());
    let connections = Connections {
        builder: Arc::new(builder(&config)),
        server: Arc::clone(&server),
        permits: Arc::new(Semaphore::new(config.connections_max)),
        stopped,
    };
    let mut addresses = Vec::with_capacity(sockets.len());
    for socket in sockets {
        let listener = socket.listen(ACCEPT_BACKLOG).context("can't listen")?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(connections.clone().accept(listener));
    }
    drop(connections);
    announce(&addresses);

    signals.next().await;
    tracing::info!("stopping: requests in flight are finished");
    server.drain();
    stop.send_replace(());
    tokio::select! {
        // Every connection holds a receiver until it is done.
        () = stop.closed() => tracing::info!("stopped"),
        () = tokio::time::sleep(Duration::from_millis(config.drain_timeout_ms)) => {
            tracing::warn!("stopped with requests in flight, which took longer than the drain timeout");
        }
        () = signals.next() => tracing::warn!("stopped at once by a second signal"),
    }
    if let Some(monitor) = monitor {
        tokio::task::spawn_blocking(move || monitor.stop()).await?;
    }
    Ok(())
}

/// A store that everybody has.
type SharedStore = Arc<dyn Store>;

/// Opens the store and loads every model; the first is at the root.
fn load(
    artifacts: &[PathBuf],
    config: &ServeConfig,
    writer: &str,
) -> anyhow::Result<(Vec<Served>, Option<SharedStore>)> {
    let mut opened = Vec::with_capacity(artifacts.len());
    for path in artifacts {
        let artifact = Artifact::open(path).with_context(|| path.display().to_string())?;
        opened.push((path, artifact));
    }
    check_names(opened.iter().map(|(_, artifact)| artifact.manifest.name.as_str()))?;
    let store = config.monitor.as_ref().map(|_| open_store(config)).transpose()?;
    let runtime = Runtime::new(config.runtime())?;
    let mut models = Vec::with_capacity(opened.len());
    for (path, artifact) in opened {
        let loaded = runtime.load(&artifact).with_context(|| path.display().to_string())?;
        warm_up(&loaded, &artifact).with_context(|| path.display().to_string())?;
        tracing::info!(
            model = artifact.manifest.name,
            version = artifact.manifest.version,
            sha256 = artifact.bundle_sha256,
            file_sha256 = artifact.file_sha256,
            load_ms = loaded.load_time().as_millis() as u64,
            code = if loaded.from_cache() { "cached" } else { "compiled" },
            "loaded {}",
            path.display(),
        );
        let watch = config.monitor.as_ref().zip(store.as_ref()).map(|(monitor, store)| {
            let (manifest, sha256) = (artifact.manifest.clone(), artifact.bundle_sha256.clone());
            let mut watch = WatchConfig::from(&monitor.monitor);
            if !store.is_shared() {
                watch.wait = Duration::ZERO;
            }
            let (store, writer) = (Arc::clone(store), writer.to_owned());
            move |counters| Watched::new(manifest, sha256, counters, watch, store, writer)
        });
        models.push(Served::new(&artifact, loaded, models.is_empty(), watch));
    }
    Ok((models, store))
}

/// Opens the store that was chosen. What nobody chose must not hinder serving:
/// where the default file can't be had, memory does.
fn open_store(config: &ServeConfig) -> anyhow::Result<SharedStore> {
    let StoreChoice::At(spec) = &config.store else {
        return match default_store(&config.listen) {
            Some(path) => match open_file(&path) {
                Ok(store) => {
                    tracing::info!(store = %path.display(), "the monitor keeps its state");
                    Ok(store)
                }
                Err(error) => {
                    tracing::warn!("the monitor keeps its state in memory: {error:#}");
                    Ok(store::open("memory")?)
                }
            },
            None => {
                tracing::info!("the monitor keeps its state in memory; --store keeps it in a file");
                Ok(store::open("memory")?)
            }
        };
    };
    Ok(store::open(spec).map_err(|error| ConfigError(format!("--store: {error}")))?)
}

fn open_file(path: &Path) -> anyhow::Result<SharedStore> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let spec = path.to_str().context("the path is not UTF-8")?;
    Ok(store::open(spec)?)
}

/// The file for a server that listens here, if it has a place to be found
/// again.
fn default_store(listen: &[SocketAddr]) -> Option<PathBuf> {
    let address = listen.first().filter(|address| address.port() != 0)?;
    let host = address.ip().to_string().replace(':', "_");
    let folder = folders::of_user("XDG_STATE_HOME", ".local/state")?;
    Some(folder.join(format!("{host}-{}.redb", address.port())))
}

/// Calls the model before anybody waits for it: the first calls of an instance
/// touch memory that later ones find ready.
fn warm_up(loaded: &Loaded, artifact: &Artifact) -> anyhow::Result<()> {
    if let Some(row) = artifact.golden.rows.first() {
        for _ in 0..WARM_UP_CALLS {
            if let Err(problem) = loaded.predict(row.request.as_bytes(), None)? {
                anyhow::bail!(
                    "the model refuses its own golden row: {}",
                    String::from_utf8_lossy(&problem.body)
                );
            }
        }
    }
    Ok(())
}

/// Several models are told apart by their names, which stand in paths.
fn check_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Result<(), ConfigError> {
    let several = names.len() > 1;
    let mut seen = Vec::with_capacity(names.len());
    for name in names {
        if several && !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
            return Err(ConfigError(format!(
                "the name {name:?} can't stand in a path: serve this model alone, or pack it with --name"
            )));
        }
        if seen.contains(&name) {
            return Err(ConfigError(format!(
                "two models are named {name:?}: pack one with another --name"
            )));
        }
        seen.push(name);
    }
    if seen.is_empty() {
        return Err(ConfigError("there is no model to serve".into()));
    }
    Ok(())
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    socket
        .and_then(|socket| {
            // A restart finds its port in TIME_WAIT.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        })
        .with_context(|| format!("can't listen at {address}"))
}

/// Says on standard output where the server is; whoever reads it waits for it.
fn announce(addresses: &[SocketAddr]) {
    let mut out = std::io::stdout().lock();
    for address in addresses {
        // Nobody has to read it.
        let _ = writeln!(out, "listening on http://{address}");
        tracing::info!(%address, "listening");
    }
    let _ = out.flush();
}

fn builder(config: &ServeConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_read_timeout_ms))
        .max_buf_size(READ_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HTTP2_HEADER_BYTES_MAX);
    builder
}

/// What every connection needs.
#[derive(Clone)]
struct Connections {
    builder: Arc<auto::Builder<TokioExecutor>>,
    server: Arc<Server>,
    permits: Arc<Semaphore>,
    stopped: watch::Receiver<()>,
}

impl Connections {
    /// Accepts connections until the server stops.
    async fn accept(mut self, listener: TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return;
            };
            // What the system had accepted already is still served.
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                _ = self.stopped.changed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().serve(stream, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(mut self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Head and body of an answer are often two segments.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let server = self.server;
        let service = service_fn(move |request| Arc::clone(&server).answer(request));
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

/// The signals that stop the server.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_configuration_is_told_before_anything_is_bound() {
        struct Case {
            change: fn(&mut ServeConfig),
            error: &'static str,
        }
        let cases = [
            Case {
                change: |config| config.listen.clear(),
                error: "there is no address to listen at",
            },
            Case {
                change: |config| config.listen = vec![([0, 0, 0, 0], 80).into()],
                error: "0.0.0.0:80 can be reached from other machines and there is no authentication: \
                        listen at a loopback address, or say --insecure",
            },
            Case {
                change: |config| config.deadline_ms = 0,
                error: "deadline_ms must be at least 1",
            },
            Case {
                change: |config| config.log_filter = "modelet=loud".into(),
                error: "log filter \"modelet=loud\": error parsing level filter: expected one of \"off\", \"error\", \
                        \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
            },
        ];
        for Case { change, error } in cases {
            let mut config = ServeConfig::default();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().0, error);
        }
        let open = ServeConfig {
            listen: vec![([0, 0, 0, 0], 80).into()],
            insecure: true,
            ..ServeConfig::default()
        };
        assert_eq!(open.check(), Ok(()));
    }

    #[test]
    fn several_models_need_names_of_their_own() {
        let check = |names: &[&str]| check_names(names.iter().copied()).map_err(|error| error.0);
        assert_eq!(check(&["any name"]), Ok(()));
        assert_eq!(check(&["credit", "fraud_2.1"]), Ok(()));
        assert!(check(&["a/b", "c"]).unwrap_err().contains("can't stand in a path"));
        assert!(check(&["a", "a"]).unwrap_err().contains("two models are named \"a\""));
        assert!(check(&[]).unwrap_err().contains("no model"));
    }
}
