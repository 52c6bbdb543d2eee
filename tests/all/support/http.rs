//! A plain HTTP/1.1 client: what is sent is exactly what the test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name, which is lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], b"")
}

pub fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Answer {
    send(
        address,
        "POST",
        path,
        &[("content-type", "application/json")],
        body.as_ref(),
    )
}

/// Sends a request on a connection of its own.
pub fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let bytes = request(address, method, path, headers, body);
    raw(address, &bytes, method == "HEAD")
}

/// Posts to a server that may end meanwhile: no answer then.
pub fn try_post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    exchange(address, &request(address, "POST", path, headers, body), false).ok()
}

fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends these bytes and reads one answer.
pub fn raw(address: SocketAddr, bytes: &[u8], head: bool) -> Answer {
    exchange(address, bytes, head).unwrap_or_else(|why| panic!("{address}: {why}"))
}

fn exchange(address: SocketAddr, bytes: &[u8], head: bool) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket has a timeout");
    // A server that refuses a large body may close before all of it is sent.
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&received, head) {
            return Ok(answer);
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => {
                let received = String::from_utf8_lossy(&received);
                return Err(format!("the connection ended after {received:?}"));
            }
            Ok(n) => received.extend_from_slice(&chunk[..n]),
        }
    }
}

fn parse(received: &[u8], head: bool) -> Option<Answer> {
    let end = received.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&received[..end]).expect("a head is text");
    let mut lines = text.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &received[end + 4..];
    if status == 100 {
        return parse(body, head);
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map(|(_, value)| value.parse::<usize>().expect("a length"));
    let length = match length {
        // RFC 9112, 6.3: these have no body, whatever is said of it.
        _ if head || matches!(status, 204 | 304) => 0,
        Some(length) => length,
        None => panic!("an answer without content-length: {text}"),
    };
    (body.len() >= length).then(|| Answer {
        status,
        headers,
        body: body[..length].to_vec(),
    })
}
