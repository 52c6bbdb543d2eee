//! The HTTP handler of the WASI 0.3 build, which Spin 4.1 and
//! `wasmtime serve` call.

use super::collector::{self, Claim, GATHER_MS, PATIENCE_NS, RETRY_MS, TIMEOUT_NS};
use super::{Head, clock, headers, text};
use crate::api::BODY_BYTES_MAX;
use crate::api::collector::{Pushed, Settings};
use spin_sdk::wasip3::clocks::monotonic_clock::wait_for;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::client::send;
use spin_sdk::wasip3::http::types::{self, ErrorCode, Fields, Method, RequestOptions, Response, Scheme};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};
use spin_sdk::wit_bindgen::{FutureReader, StreamReader, StreamResult};

/// Speaks the interface's own types: the SDK's conversions to the `http` crate's
/// and back are a tenth of a packed component.
struct Handler;

spin_sdk::wasip3::http::service::export!(Handler);

impl Guest for Handler {
    async fn handle(request: types::Request) -> Result<Response, ErrorCode> {
        let fields = request.get_headers();
        let head = Head {
            method: super::method!(Method, request.get_method()),
            target: request.get_path_with_query().unwrap_or_else(|| "/".into()),
            content_type: text(fields.get("content-type")),
            request_id: text(fields.get("x-request-id")),
            spin: fields.has("spin-full-url"),
        };
        drop(fields);
        let body = read(request).await?;
        let answer = super::handle(&head, body.as_deref());
        if let Some(claim) = Claim::take() {
            spawn(push(claim));
        }
        let fields = Fields::from_list(&headers(&answer)).map_err(|e| ErrorCode::InternalError(Some(e.to_string())))?;
        let body = if head.method == "HEAD" { Vec::new() } else { answer.body };
        let (contents, trailers) = send_body(body);
        let (response, _) = Response::new(fields, Some(contents), trailers);
        let _ = response.set_status_code(answer.status);
        Ok(response)
    }
}

/// The whole body; `None` if it is larger than is accepted.
async fn read(request: types::Request) -> Result<Option<Vec<u8>>, ErrorCode> {
    const CHUNK: usize = 16 * 1024;
    let (_taken, result) = wit_future::new(|| Ok(()));
    let (mut contents, trailers) = types::Request::consume_body(request, result);
    let mut bytes = Vec::new();
    loop {
        // Grows by doubling.
        if bytes.capacity() - bytes.len() < CHUNK / 4 {
            bytes.reserve(CHUNK);
        }
        let (result, read) = contents.read(bytes).await;
        bytes = read;
        if bytes.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    trailers.await?;
    Ok(Some(bytes))
}

/// Sends a body once the runtime reads it.
fn send_body(bytes: Vec<u8>) -> (StreamReader<u8>, FutureReader<Result<Option<Fields>, ErrorCode>>) {
    let (mut body, contents) = wit_stream::new();
    let (trailers, trailers_read) = wit_future::new(|| Ok(None));
    spawn(async move {
        // One without bytes may have no reader. What is left of others is left
        // because the connection broke.
        if !bytes.is_empty() {
            body.write_all(bytes).await;
        }
        drop(body);
        let _ = trailers.write(Ok(None)).await;
    });
    (contents, trailers_read)
}

/// Pushes what is observed until there is nothing more.
async fn push(_claim: Claim) {
    let mut retries = RETRY_MS.iter();
    let mut wait_ms = &GATHER_MS;
    let mut start = clock();
    loop {
        wait_for(wait_ms * 1_000_000).await;
        let Some((settings, delta)) = collector::next() else {
            return;
        };
        let pushed = post(&settings, delta).await.map_or(Pushed::Failed, Pushed::from_status);
        if !collector::settle(pushed) {
            return;
        }
        wait_ms = if pushed == Pushed::Failed {
            match retries.next() {
                Some(wait_ms) if clock() - start < PATIENCE_NS => wait_ms,
                _ => return,
            }
        } else {
            retries = RETRY_MS.iter();
            start = clock();
            &GATHER_MS
        };
    }
}

/// Sends a delta; the answer's status, if there is one.
async fn post(settings: &Settings, delta: Vec<u8>) -> Option<u16> {
    let headers = Fields::from_list(&collector::headers(settings, &delta)).ok()?;
    let options = RequestOptions::new();
    // Not every runtime lets a guest choose.
    let _ = options.set_connect_timeout(Some(TIMEOUT_NS));
    let _ = options.set_first_byte_timeout(Some(TIMEOUT_NS));
    let (contents, trailers) = send_body(delta);
    let (request, _) = types::Request::new(headers, Some(contents), trailers, Some(options));
    request.set_method(&Method::Post).ok()?;
    let scheme = if settings.secure { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(&settings.authority)).ok()?;
    request.set_path_with_query(Some(&settings.path)).ok()?;
    Some(send(request).await.ok()?.get_status_code())
}
