//! Servers to compare with: two give every request the same answer, one has the
//! core compiled in.

use anyhow::{Context, Result, ensure};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use modelet::api::{Format, JSON, Route, Service};
use modelet::model::Model;
use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[allow(dead_code, unused_imports, reason = "the host's own file")]
#[path = "../../src/http/body.rs"]
mod body;
#[allow(dead_code, unused_imports, reason = "the host's own file")]
#[path = "../../src/http/id.rs"]
mod id;

use body::{BodyLimits, Budget};
use id::{RequestId, X_REQUEST_ID};

/// hyper and nothing else.
pub const HELLO: &str = "serve-hello";
/// The host's stack without a guest: its connections, routing, ids, reading of
/// bodies, and headers.
pub const STACK: &str = "serve-stack";
/// That stack with the core compiled into it: no guest, nothing watched.
pub const NATIVE: &str = "serve-native";

/// The baseline of this name, which takes its answer; [`NATIVE`] the path of a
/// bundle.
pub fn named(name: &str) -> Option<fn(Bytes) -> Result<()>> {
    match name {
        HELLO => Some(|answer| run(hello(answer))),
        STACK => Some(|answer| run(stack(Reply::Same(answer)))),
        NATIVE => Some(|path| run(stack(Reply::Core(std::fs::read(str::from_utf8(&path)?)?)))),
        _ => None,
    }
}

fn run(server: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(server)
}

async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn hello(answer: Bytes) -> Result<()> {
    let listener = listen().await?;
    loop {
        let stream = accept(&listener).await?;
        let answer = answer.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let mut response = Response::new(Full::new(answer.clone()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            async { Ok::<_, Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

/// Where a stack's answers come from.
enum Reply {
    Same(Bytes),
    /// A bundle, of which each thread has a model.
    Core(Vec<u8>),
}

thread_local! {
    static CORE: RefCell<Option<Service>> = const { RefCell::new(None) };
}

impl Reply {
    fn body(&self, request: &[u8], id: &RequestId) -> Result<Bytes> {
        let bundle = match self {
            Reply::Same(answer) => return Ok(answer.clone()),
            Reply::Core(bundle) => bundle,
        };
        CORE.with_borrow_mut(|core| {
            if core.is_none() {
                *core = Some(Service::new(Model::load(bundle.clone())?));
            }
            let core = core.as_mut().context("it was just loaded")?;
            let start = Instant::now();
            let reply = core.predict(request, Some(id.as_str()), || start.elapsed().as_nanos() as u64);
            ensure!(reply.problem.is_none(), "{:?}", reply.problem);
            Ok(reply.body.into())
        })
    }
}

async fn stack(reply: Reply) -> Result<()> {
    // As in `serve.rs`.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_buf_size(64 << 10);
    let builder = Arc::new(builder);
    let stack = Arc::new(Stack {
        bodies: BodyLimits {
            bytes_max: 16 << 20,
            read_timeout: Duration::from_secs(30),
            budget: Budget::new(512 << 20),
        },
        reply,
    });
    let (_stop, stopped) = watch::channel(());
    let listener = listen().await?;
    loop {
        let stream = accept(&listener).await?;
        let (builder, stack, mut stopped) = (Arc::clone(&builder), Arc::clone(&stack), stopped.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| Arc::clone(&stack).answer(request));
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                biased;
                _ = connection.as_mut() => {}
                _ = stopped.changed() => {}
            }
        });
    }
}

struct Stack {
    bodies: BodyLimits,
    reply: Reply,
}

impl Stack {
    async fn answer(self: Arc<Stack>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let id = RequestId::of(&head.headers);
        let known = Route::from_path(head.uri.path()) == Some(Route::Predict) && head.method == Method::POST;
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = matches!(Format::from_content_type(content_type), Ok(Format::Json));
        let read = body::read(body, &self.bodies, false).await;
        let answer = match &read {
            Ok(whole) if known && json => self.reply.body(&whole.bytes, &id).ok(),
            _ => None,
        };
        let mut headers = head.headers;
        headers.clear();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(X_REQUEST_ID, id.into_header());
        let good = answer.is_some();
        let mut response = Response::new(Full::new(answer.unwrap_or_default()));
        *response.headers_mut() = headers;
        if !good {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(response)
    }
}
