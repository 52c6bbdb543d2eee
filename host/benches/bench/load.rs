//! Servers as processes of their own, and requests to them.

use crate::stats::Times;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fs, str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// A run of requests that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(180);

/// A running server; it ends when it is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server that says where it listens. What it logs is written,
    /// and read by nobody.
    pub fn start(command: &mut Command) -> Result<Server> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut server = Server {
            child: child.with_context(|| format!("{command:?}"))?,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        server.address = address
            .with_context(|| format!("{command:?} does not say where it listens"))?
            .parse()?;
        Ok(server)
    }

    /// Processor time used so far, in microseconds.
    fn cpu_us(&self) -> Result<f64> {
        let stat = ProcessStat::read(self.child.id())?;
        Ok(stat.ticks() * 1e6 / rustix::param::clock_ticks_per_second() as f64)
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Sends so many requests over so many connections and waits for good
    /// answers.
    pub fn load(&self, requests: &[Vec<u8>], connections: usize, count: usize) -> Result<Load> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let left = Rc::new(Cell::new(count));
        let requests: Rc<[Vec<u8>]> = requests.into();
        let cpu_before = self.cpu_us()?;
        let start = Instant::now();
        let times = LocalSet::new().block_on(&runtime, async {
            // Never asleep: a server would pay for waking the client, the more
            // often the longer it lets the client wait.
            tokio::task::spawn_local(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            let mut tasks = Vec::with_capacity(connections);
            for _ in 0..connections {
                let connection = connection(self.address, Rc::clone(&requests), Rc::clone(&left));
                tasks.push(tokio::task::spawn_local(tokio::time::timeout(TIME_MAX, connection)));
            }
            let mut times = Times::default();
            for task in tasks {
                times.append(&task.await?.context("the server is too slow")??);
            }
            anyhow::Ok(times)
        })?;
        Ok(Load {
            cpu_us: (self.cpu_us()? - cpu_before) / count as f64,
            per_s: count as f64 / start.elapsed().as_secs_f64(),
            times,
        })
    }

    /// The body of the answer to one request.
    pub fn answer(&self, request: &[u8]) -> Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut stream = TcpStream::connect(self.address).await?;
            let mut buffer = Vec::new();
            let body = exchange(&mut stream, request, &mut buffer).await?;
            Ok(String::from_utf8(buffer.split_off(body))?)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a number of requests took.
pub struct Load {
    /// Processor time of the server for each request, in microseconds.
    pub cpu_us: f64,
    pub per_s: f64,
    /// From sending a request to the end of its answer.
    pub times: Times,
}

/// `POST /predict` with this body, as clients send it.
pub fn post(body: &str) -> Vec<u8> {
    format!(
        "POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One connection, kept alive, until no requests are left.
async fn connection(address: SocketAddr, requests: Rc<[Vec<u8>]>, left: Rc<Cell<usize>>) -> Result<Times> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut times = Times::default();
    while let Some(next) = left.get().checked_sub(1) {
        left.set(next);
        let start = Instant::now();
        exchange(&mut stream, &requests[next % requests.len()], &mut buffer).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Sends a request and reads its answer; tells where the answer's body begins.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<usize> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = str::from_utf8(&buffer[..end])?;
        if !head.starts_with("HTTP/1.1 200 ") {
            bail!("{}", String::from_utf8_lossy(buffer));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = end + 4;
        if buffer.len() >= body + length.context("no content-length")?.parse::<usize>()? {
            return Ok(body);
        }
    }
}

/// `/proc/PID/stat`, from the third field on.
pub struct ProcessStat(String);

impl ProcessStat {
    pub fn read(process: impl std::fmt::Display) -> Result<ProcessStat> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The second field is a name, which may have anything in it.
        let (_, rest) = stat.rsplit_once(") ").context("no name")?;
        Ok(ProcessStat(rest.to_owned()))
    }

    /// By the number that proc(5) gives it.
    fn field(&self, number: usize) -> f64 {
        self.0
            .split(' ')
            .nth(number - 3)
            .and_then(|field| field.parse().ok())
            .unwrap_or(f64::NAN)
    }

    /// Time spent in user and kernel mode, in clock ticks.
    fn ticks(&self) -> f64 {
        self.field(14) + self.field(15)
    }

    /// Page faults that needed no I/O.
    pub fn minor_faults(&self) -> f64 {
        self.field(10)
    }
}
