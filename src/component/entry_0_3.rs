//! The HTTP handler of the WASI 0.3 build, which Spin 4.1 and
//! `wasmtime serve` call.

use super::clock;
use super::collector::{self, Claim, GATHER_MS, PATIENCE_NS, RETRY_MS, TIMEOUT_NS};
use crate::api::collector::{Pushed, Settings};
use crate::api::{BODY_BYTES_MAX, Request};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use spin_sdk::http::{HeaderMap, Response};
use spin_sdk::http_service;
use spin_sdk::wasip3::clocks::monotonic_clock::wait_for;
use spin_sdk::wasip3::http::client::send;
use spin_sdk::wasip3::http::types::{self, ErrorCode, Fields, Method, RequestOptions, Scheme};
use spin_sdk::wasip3::{spawn, wit_future, wit_stream};

#[http_service]
async fn serve(request: spin_sdk::http::Request) -> spin_sdk::http::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let answer = super::handle(
        Request {
            method: head.method.as_str(),
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            content_type: header(&head.headers, "content-type"),
            request_id: header(&head.headers, "x-request-id"),
            body: body.as_deref(),
        },
        || head.headers.contains_key("spin-full-url"),
    );
    if let Some(claim) = Claim::take() {
        spawn(push(claim));
    }
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", answer.content_type)
        .header("content-length", answer.body.len());
    if let Some(allow) = answer.allow {
        response = response.header("allow", allow);
    }
    if let Some(id) = answer.request_id {
        response = response.header("x-request-id", id);
    }
    let body = if head.method == "HEAD" { Vec::new() } else { answer.body };
    Ok(response.body(Full::new(Bytes::from(body)))?)
}

/// The whole body; `None` if it is larger than is accepted.
async fn read<B>(body: B) -> spin_sdk::http::Result<Option<Vec<u8>>>
where
    B: Body<Data = Bytes, Error = ErrorCode>,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Ok(None);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Some(bytes))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
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
    let (mut body, contents) = wit_stream::new();
    let (trailers, trailers_read) = wit_future::new(|| Ok(None));
    let (request, _) = types::Request::new(headers, Some(contents), trailers_read, Some(options));
    request.set_method(&Method::Post).ok()?;
    let scheme = if settings.secure { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(&settings.authority)).ok()?;
    request.set_path_with_query(Some(&settings.path)).ok()?;
    spawn(async move {
        // What is left is left because the connection broke, which the answer
        // tells.
        body.write_all(delta).await;
        drop(body);
        let _ = trailers.write(Ok(None)).await;
    });
    Some(send(request).await.ok()?.get_status_code())
}
