//! The HTTP handler of the WASI 0.3 build, which Spin 4.1 and
//! `wasmtime serve` call.

use crate::api::{BODY_BYTES_MAX, Request};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use spin_sdk::http::{HeaderMap, Response};
use spin_sdk::http_service;
use spin_sdk::wasip3::http::types::ErrorCode;

#[http_service]
async fn serve(request: spin_sdk::http::Request) -> spin_sdk::http::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    let answer = super::handle(Request {
        method: head.method.as_str(),
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
        content_type: header(&head.headers, "content-type"),
        request_id: header(&head.headers, "x-request-id"),
        body: body.as_deref(),
    });
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
