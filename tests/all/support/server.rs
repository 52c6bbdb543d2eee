//! Servers as processes of their own, on a port that the system picks.

use super::program;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// A running server; it is stopped when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// `modelet serve` on the file, with further arguments.
    pub fn modelet(file: &Path, arguments: &[&str]) -> Server {
        let mut command = Command::new(program("modelet"));
        command
            .arg("serve")
            .arg(file)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments);
        Server::start(command)
    }

    /// `wasmtime serve` on the file.
    pub fn wasmtime(file: &Path) -> Server {
        Server::wasmtime_with(file, &[])
    }

    /// `wasmtime serve` on the file, with further arguments.
    pub fn wasmtime_with(file: &Path, arguments: &[&str]) -> Server {
        let mut command = Command::new(program("wasmtime"));
        command
            .args(["serve", "-Scli", "--addr", "127.0.0.1:0"])
            .args(arguments)
            .arg(file);
        Server::start(command)
    }

    fn start(mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        for pipe in [
            Box::new(child.stdout.take().expect("it is piped")) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().expect("it is piped")),
        ] {
            let (log, found) = (log.clone(), found.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if let Some(address) = address_in(&line) {
                        let _ = found.send(address);
                    }
                    let mut log = log.lock().expect("no reader panics");
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        }
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        match address.recv_timeout(Duration::from_secs(120)) {
            Ok(address) => server.address = address,
            Err(_) => panic!("{command:?} does not say where it listens:\n{}", server.log()),
        }
        server
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it does not stop:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server wrote:\n{}", self.log());
        }
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').parse().ok()
}
