//! The credit example, served: from a clone to a first answer.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::example;
use crate::usage::UsageError;
use crate::workspace::{binary, command_line, note, program, root, shell_quoted};

/// The task that `demo` starts beside the server: waits for it to be ready and
/// says what to do with it. No one types it.
pub const ANNOUNCE: &str = "announce";

const LISTEN: &str = "127.0.0.1:3000";

struct Options {
    listen: SocketAddr,
    serve: bool,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self> {
        let mut options = Self {
            listen: LISTEN.parse().expect("the default is an address"),
            serve: true,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--no-serve" => options.serve = false,
                "--listen" => {
                    let value = args.next().copied().unwrap_or_default();
                    options.listen = value.parse().map_err(|_| {
                        UsageError::new(format!(
                            "--listen takes an address and a port such as 127.0.0.1:8080, not {value:?}"
                        ))
                    })?;
                }
                other => return Err(UsageError::argument("demo", other).into()),
            }
        }
        Ok(options)
    }
}

pub fn run(args: &[&str]) -> Result<()> {
    let options = Options::parse(args)?;
    let listen = if options.serve {
        free(options.listen)?
    } else {
        options.listen
    };
    let component = example::pack()?;
    let mut server = program(binary("modelet"));
    server
        .arg("serve")
        .arg(component)
        .arg("--listen")
        .arg(listen.to_string());
    if options.serve {
        serve(server, listen)
    } else {
        println!(
            "\nThe credit model is packed. Serve it with:\n\n  {}\n",
            command_line(&server)
        );
        Ok(())
    }
}

/// The address if nobody listens there yet, with port 0 made a free one.
fn free(listen: SocketAddr) -> Result<SocketAddr> {
    if !listen.ip().is_loopback() {
        bail!(
            "{listen} is open to other machines, which the demo is not made for; \
             after `cargo xtask example`, `target/release/modelet serve --help` says how"
        );
    }
    match TcpListener::bind(listen) {
        Ok(listener) => Ok(listener.local_addr()?),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "something listens on {listen} already; take another port: cargo xtask demo --listen {}:{}",
            if listen.is_ipv4() { "127.0.0.1" } else { "[::1]" },
            if listen.port() == 8080 { 8081 } else { 8080 },
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {listen}; --listen names another address")),
    }
}

/// Becomes the server, so that Ctrl-C and other signals reach it and nothing
/// has to pass them on, and its exit code is the demo's.
#[cfg(unix)]
fn serve(mut server: Command, listen: SocketAddr) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let xtask = env::current_exe().context("cannot find xtask's own file")?;
    // Started by a shell that leaves at once, the announcer is not a child of
    // the server, which would not collect it.
    let status = program("sh")
        .args(["-c", "\"$0\" \"$@\" &"])
        .arg(xtask)
        .args([ANNOUNCE, &listen.to_string(), &std::process::id().to_string()])
        .status()
        .context("cannot start sh")?;
    if !status.success() {
        bail!("sh failed: {status}");
    }
    note(&format!("$ {}", command_line(&server)));
    let error = server.exec();
    Err(error).with_context(|| format!("cannot start `{}`", command_line(&server)))
}

#[cfg(not(unix))]
fn serve(mut server: Command, listen: SocketAddr) -> Result<()> {
    note(&format!("$ {}", command_line(&server)));
    let mut child = server
        .spawn()
        .with_context(|| format!("cannot start `{}`", command_line(&server)))?;
    when_ready(listen, || matches!(child.try_wait(), Ok(None)))?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed: {status}", command_line(&server));
    }
    Ok(())
}

/// Takes the server's address and process id.
pub fn announce(args: &[&str]) -> Result<()> {
    let [listen, server] = args else {
        return Err(UsageError::new("announce takes an address and a process id").into());
    };
    let listen = listen.parse().context("the address")?;
    when_ready(listen, || {
        program("kill")
            .args(["-0", server])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

/// Waits for the server to be ready, as long as it lives, and then says what
/// to do.
fn when_ready(listen: SocketAddr, mut lives: impl FnMut() -> bool) -> Result<()> {
    let mut patience = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = ready(listen);
        if matches!(answer, Ok(200)) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        if !lives() {
            return Ok(());
        }
        if Instant::now() > patience {
            let reason = match answer {
                Ok(status) => format!("/ready answers {status}"),
                Err(error) => error.to_string(),
            };
            eprintln!("still waiting for http://{listen}: {reason}");
            patience = Instant::now() + Duration::from_secs(20);
        }
    }
    let request = root().join("examples/credit/request.json");
    let request = fs::read_to_string(&request).with_context(|| format!("cannot read {}", request.display()))?;
    let mut text = instructions(listen, &request);
    text.insert(0, '\n');
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn instructions(listen: SocketAddr, request: &str) -> String {
    format!(
        "\
The credit model is served. Ask it from another terminal:

  curl -s http://{listen}/predict -H 'content-type: application/json' -d {body}

Or open its page, which also predicts in the browser itself: http://{listen}/
Ctrl-C stops the server.

",
        body = shell_quoted(&compact_json(request)),
    )
}

/// The status of `GET /ready`.
fn ready(listen: SocketAddr) -> io::Result<u16> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&listen, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("GET /ready HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1"))
}

/// JSON without the space between its tokens.
fn compact_json(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        compact.push(c);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_json_keeps_strings_as_they_are() {
        for (json, compact) in [
            ("{ \"a b\" : [ 1,\n2 ] }\n", "{\"a b\":[1,2]}"),
            (r#"{"q": "say \" twice"}"#, r#"{"q":"say \" twice"}"#),
            (r#"[ "\\" , " " ]"#, r#"["\\"," "]"#),
        ] {
            assert_eq!(compact_json(json), compact);
        }
    }

    #[test]
    fn a_taken_port_is_named_together_with_the_option_that_avoids_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address");
        let error = free(address).expect_err("the port is taken").to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("--listen"), "{error}");
    }

    #[test]
    fn the_instructions_hold_a_line_that_can_be_pasted() {
        let listen = LISTEN.parse().expect("an address");
        let text = instructions(listen, "{\"features\": {\n  \"note\": \"it's\"\n}}\n");
        let line = "  curl -s http://127.0.0.1:3000/predict -H 'content-type: application/json' \
                    -d '{\"features\":{\"note\":\"it'\\''s\"}}'";
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn ready_reads_the_status_of_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                .expect("an answer is sent");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        assert_eq!(ready(address).expect("an answer"), 503);
        let request = server.join().expect("the server ends");
        assert!(request.starts_with("GET /ready HTTP/1.1\r\n"), "{request}");
    }
}
