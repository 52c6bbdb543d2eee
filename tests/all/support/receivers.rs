//! Receivers of notifications: an HTTP server and a mail server that keep what
//! they are sent, and can be told to refuse it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request that the HTTP server got.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A mail that the mail server got.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Header and body.
    pub data: String,
}

/// A server on a thread, that keeps what it gets.
pub struct Sink<T> {
    pub address: SocketAddr,
    state: Arc<Mutex<State<T>>>,
    thread: Option<JoinHandle<()>>,
}

struct State<T> {
    got: Vec<T>,
    status: u16,
    stop: bool,
}

fn locked<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A server of webhooks; answers 200 until told otherwise.
pub type HttpSink = Sink<Request>;
/// A mail server; answers 250 to a whole mail until told otherwise.
pub type SmtpSink = Sink<Mail>;

impl HttpSink {
    /// Listens at a port of the system's choice.
    pub fn http() -> HttpSink {
        Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), 200, answer_http)
    }

    /// Listens at an address that was used before.
    pub fn http_at(address: SocketAddr) -> HttpSink {
        Sink::start(address, 200, answer_http)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl SmtpSink {
    /// Listens at a port of the system's choice.
    pub fn smtp() -> SmtpSink {
        Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), 250, answer_smtp)
    }
}

impl<T: Clone + Send + 'static> Sink<T> {
    fn start(address: SocketAddr, status: u16, answer: fn(TcpStream, &Mutex<State<T>>) -> std::io::Result<()>) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            got: Vec::new(),
            status,
            stop: false,
        }));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if locked(&shared).stop {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                    let _ = answer(stream, &shared);
                });
            }
        });
        Sink {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16) {
        locked(&self.state).status = status;
    }

    /// All that it got, refused or not.
    pub fn got(&self) -> Vec<T> {
        locked(&self.state).got.clone()
    }

    /// Waits until so much came, at most ten seconds.
    pub fn wait(&self, count: usize) -> Vec<T> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let got = self.got();
            if got.len() >= count || Instant::now() > until {
                return got;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        locked(&self.state).stop = true;
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_http(stream: TcpStream, state: &Mutex<State<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("").to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let status = {
        let mut state = locked(state);
        let status = state.status;
        state.got.push(Request {
            path,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        status
    };
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status} status\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    )
}

fn answer_smtp(stream: TcpStream, state: &Mutex<State<Mail>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 sink ESMTP\r\n")?;
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        let address = || {
            line.split_once(['<'])
                .map_or("", |(_, rest)| rest.trim_end_matches('>'))
        };
        let status = locked(state).status;
        let reply = match verb.as_str() {
            "EHLO" => "250-sink\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n".to_owned(),
            "AUTH" => "235 2.7.0 accepted\r\n".to_owned(),
            "MAIL" => {
                mail.from = address().split('>').next().unwrap_or("").to_owned();
                "250 ok\r\n".to_owned()
            }
            "RCPT" => {
                mail.to.push(address().to_owned());
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n")?;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    mail.data.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let mail = std::mem::take(&mut mail);
                if status == 250 {
                    locked(state).got.push(mail);
                }
                format!("{status} so be it\r\n")
            }
            "QUIT" => {
                return reader.get_mut().write_all(b"221 bye\r\n");
            }
            _ => "250 ok\r\n".to_owned(),
        };
        reader.get_mut().write_all(reply.as_bytes())?;
    }
}
