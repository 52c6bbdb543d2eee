//! As much of HTTP/1.1 as asking an endpoint takes: one request a connection,
//! no TLS, no redirects.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: u64 = 64 << 10;
const BODY_BYTES_MAX: u64 = 64 << 20;

/// An HTTP server, and the path under which it answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As the header `host` has it.
    authority: String,
    /// Host without brackets, and port.
    address: (String, u16),
    base: String,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Endpoint {
    /// Reads an address such as `http://127.0.0.1:3000/models/credit`.
    pub fn parse(url: &str) -> anyhow::Result<Endpoint> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("expected an address that starts with http://; TLS is not spoken here");
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        // What follows the last colon is a port, unless it is inside the
        // brackets of an IPv6 address.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (authority, Some(80)),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"?#@".contains(&b));
        match port {
            Some(port) if !host.is_empty() && plain(rest) => Ok(Endpoint {
                authority: authority.to_owned(),
                address: (bracketed.unwrap_or(host).to_owned(), port),
                base: path.trim_end_matches('/').to_owned(),
            }),
            _ => bail!("expected an address such as http://127.0.0.1:3000"),
        }
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.ask("GET", path, "")
    }

    pub fn post(&self, path: &str, json: &str) -> anyhow::Result<Response> {
        self.ask("POST", path, json)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Response> {
        let mut stream = self.connect().context("can't connect")?;
        let mut request = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\nconnection: close\r\n",
            self.base, self.authority
        );
        if method == "POST" {
            request.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            ));
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream
            .write_all(request.as_bytes())
            .context("the request can't be sent")?;
        response(BufReader::new(stream))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let (host, port) = &self.address;
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in (host.as_str(), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

fn response(mut stream: impl BufRead) -> anyhow::Result<Response> {
    let mut head = stream.by_ref().take(HEAD_BYTES_MAX);
    let mut line = || -> anyhow::Result<String> {
        let mut line = String::new();
        head.read_line(&mut line).context("the answer can't be read")?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
            None => bail!("the answer ends within its head"),
        }
    };
    let (status, length, chunked) = loop {
        let first = line()?;
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
        let Some(status) = status else {
            bail!("the answer is not HTTP/1.1");
        };
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse::<u64>().context("content-length")?),
                "transfer-encoding" => chunked = value.to_ascii_lowercase().ends_with("chunked"),
                _ => {}
            }
        }
        if status >= 200 {
            break (status, length, chunked);
        }
    };
    let mut body = Vec::new();
    if chunked {
        dechunk(&mut stream, &mut body)?;
    } else {
        let limit = length.unwrap_or(BODY_BYTES_MAX);
        if limit > BODY_BYTES_MAX {
            bail!("the answer has {limit} bytes");
        }
        stream
            .take(limit)
            .read_to_end(&mut body)
            .context("the answer can't be read")?;
        if length.is_some_and(|length| body.len() as u64 != length) {
            bail!("the answer ends early");
        }
    }
    Ok(Response {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(stream: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        stream
            .take(HEAD_BYTES_MAX)
            .read_line(&mut line)
            .context("the answer can't be read")?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let length = u64::from_str_radix(digits, 16).context("the answer has a chunk without a length")?;
        if length == 0 {
            return Ok(());
        }
        if body.len() as u64 + length > BODY_BYTES_MAX {
            bail!("the answer has more than {BODY_BYTES_MAX} bytes");
        }
        let read = stream
            .take(length)
            .read_to_end(body)
            .context("the answer can't be read")?;
        let mut end = [0; 2];
        if read as u64 != length || stream.read_exact(&mut end).is_err() {
            bail!("the answer ends early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses_are_read() {
        struct Case(&'static str, Option<(&'static str, u16, &'static str)>);
        for Case(url, expected) in [
            Case("http://127.0.0.1:3000", Some(("127.0.0.1", 3000, ""))),
            Case("http://localhost", Some(("localhost", 80, ""))),
            Case("http://[::1]:8080/", Some(("::1", 8080, ""))),
            Case("http://[::1]", Some(("::1", 80, ""))),
            Case("http://h:1/models/credit/", Some(("h", 1, "/models/credit"))),
            Case("https://h", None),
            Case("127.0.0.1:3000", None),
            Case("http://", None),
            Case("http://h:99999", None),
            Case("http://h/a b", None),
            Case("http://user@h/", None),
            Case("http://h/\r\nx: y", None),
        ] {
            let got = Endpoint::parse(url).ok().map(|e| (e.address.0, e.address.1, e.base));
            let expected = expected.map(|(host, port, base)| (host.to_owned(), port, base.to_owned()));
            assert_eq!(got, expected, "{url}");
        }
    }

    #[test]
    fn answers_are_read_however_their_length_is_told() {
        struct Case(&'static str, Option<(u16, &'static str)>);
        for Case(bytes, expected) in [
            Case(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, more",
                Some((200, "hi")),
            ),
            Case(
                "HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
                Some((404, "until the end")),
            ),
            Case(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
                Some((200, "abc0123456789")),
            ),
            Case(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n",
                Some((204, "")),
            ),
            Case("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi", None),
            Case("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", None),
            Case("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n", None),
            Case("HTTP/1.1 200 OK\r\n", None),
            Case("SSH-2.0-x\r\n", None),
            Case("", None),
        ] {
            let got = response(bytes.as_bytes()).ok();
            let expected = expected.map(|(status, body)| Response {
                status,
                body: body.into(),
            });
            assert_eq!(got, expected, "{bytes}");
        }
    }

    #[test]
    fn a_request_reaches_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).unwrap() > 0);
            }
            let mut body = [0; 2];
            reader.read_exact(&mut body).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
                .unwrap();
            (head, body)
        });
        let response = Endpoint::parse(&url).unwrap().post("/predict", "{}").unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "good"));
        let (head, body) = server.join().unwrap();
        assert!(
            head.starts_with("POST /base/predict HTTP/1.1\r\nhost: 127.0.0.1:"),
            "{head}"
        );
        assert_eq!(&body, b"{}");
    }
}
