//! A Redis server as a process of its own, with its data in a folder of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server that writes every change to its disk; it is stopped when
/// dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// Starts Debian's `redis-server`, or else `valkey-server`.
    ///
    /// # Panics
    /// Neither is installed, or it does not start.
    pub fn start() -> RedisServer {
        let folder = tempfile::tempdir().expect("a folder is made");
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            if let Some(child) = spawn(port, &folder) {
                return RedisServer { child, port, folder };
            }
        }
        panic!("redis-server does not start:\n{}", log(&folder));
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Starts it once more, on the same port and data.
    pub fn restart(&mut self) {
        self.kill();
        let child = spawn(self.port, &self.folder);
        self.child = child.unwrap_or_else(|| panic!("redis-server does not start again:\n{}", log(&self.folder)));
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

/// `None` if it ends instead of listening.
/// Whether the server answers, which it does once it has read its data.
fn answers(port: u16) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer == *b"+PONG")
    };
    asked().unwrap_or(false)
}

fn spawn(port: u16, folder: &TempDir) -> Option<Child> {
    let server = |program: &str| {
        Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--logfile",
                "log",
                "--dir",
            ])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
    };
    let mut child = server("redis-server")
        .or_else(|_| server("valkey-server"))
        .unwrap_or_else(|e| panic!("redis-server: {e}; install it with: apt-get install -y redis-server"));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if child.try_wait().expect("its state is known").is_some() {
            return None;
        }
        if answers(port) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
