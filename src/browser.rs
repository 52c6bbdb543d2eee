//! The browser's module: conversions only.
//!
//! It loads the same bundle that a component was packed from, and answers with
//! the same bytes.

use crate::api::collector::{Collector, Pushed};
use crate::api::metrics::Outcome;
use crate::api::{BatchOptions, ROWS_MAX, Reply, Service};
use crate::bundle::{Bundle, Section};
use crate::drift::delta;
use crate::golden::{Golden, comparable};
use crate::model::Model;
use serde::Serialize;
use serde_wasm_bindgen::{Deserializer, Serializer};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Nanoseconds since the page was opened.
fn clock() -> u64 {
    (now() * 1e6) as u64
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What a feature takes. */
export type FeatureValue = number | string | boolean | null;
/** A request: `{ features: { name: value, ... } }`. */
export interface PredictRequest { features: Record<string, FeatureValue>; id?: string }
/** Something odd about a record that was answered nevertheless. */
export interface PredictWarning { feature: string; code: string; message: string }
/** An answer; which members it has depends on the model's task. */
export interface Prediction {
  prediction: number | string | number[] | null;
  probability?: number;
  probabilities?: Record<string, number>;
  score?: number;
  scores?: Record<string, number> | number[];
  warnings?: PredictWarning[];
  model_version: string;
  inference_time_ms: number;
  id?: string;
}
/** A refusal (RFC 9457). It is thrown. */
export interface Problem {
  type: string; title: string; status: number; detail: string; id?: string;
  faults?: { feature?: string; code: string; message: string; accepted?: string }[];
}
"#;

#[wasm_bindgen]
extern "C" {
    /// See the TypeScript interface.
    #[wasm_bindgen(typescript_type = "PredictRequest")]
    pub type PredictRequest;
    /// See the TypeScript interface.
    #[wasm_bindgen(typescript_type = "Prediction")]
    pub type Prediction;
}

/// A model in the browser.
#[wasm_bindgen(js_name = Model)]
pub struct BrowserModel {
    service: Service,
    golden: Golden,
    collector: Option<Box<Collector>>,
}

#[wasm_bindgen(js_class = Model)]
impl BrowserModel {
    /// Loads a bundle. Throws an `Error` when it is damaged, or needs the
    /// neural module.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: Vec<u8>) -> Result<BrowserModel, JsError> {
        let golden = Bundle::parse(&bundle)
            .ok()
            .and_then(|sections| sections.section(Section::Golden))
            .and_then(|range| serde_json::from_slice(&bundle[range]).ok())
            .unwrap_or_default();
        let model = Model::load(bundle).map_err(|e| JsError::new(&e.to_string()))?;
        Ok(BrowserModel {
            service: Service::new(model),
            golden,
            collector: None,
        })
    }

    /// The manifest: signature, versions, hashes and the reference's summary.
    pub fn info(&self) -> Result<JsValue, JsError> {
        let info: serde_json::Value = serde_json::from_str(self.service.model().info())?;
        to_js(&info)
    }

    /// The identity of the model: the SHA-256 of its bundle.
    #[wasm_bindgen(getter)]
    pub fn sha256(&self) -> String {
        self.service.model().sha256().to_owned()
    }

    /// Answers one record given as an object. Throws a `Problem`.
    pub fn predict(&mut self, request: PredictRequest) -> Result<Prediction, JsValue> {
        let source = Deserializer::from(JsValue::from(request));
        let reply = self.service.predict_object(source, None, clock);
        self.count(&reply);
        let parse = |body: &[u8]| -> Result<JsValue, JsValue> {
            let value: serde_json::Value = serde_json::from_slice(body).map_err(JsError::from)?;
            to_js(&value).map_err(JsValue::from)
        };
        match reply.problem {
            None => Ok(parse(&reply.body)?.unchecked_into()),
            Some(problem) => Err(parse(&problem.body)?),
        }
    }

    /// Answers one record given as JSON: the bytes that a server would answer,
    /// a problem's included. With `trial` it is not counted among the
    /// observations.
    #[wasm_bindgen(js_name = predictText)]
    pub fn predict_text(&mut self, body: &str, trial: Option<bool>) -> String {
        let reply = self.service.predict(body.as_bytes(), None, clock);
        if trial != Some(true) {
            self.count(&reply);
        }
        text(reply)
    }

    /// Answers a batch given as `application/json`, `application/x-ndjson` or
    /// `text/csv`: the bytes that a server would answer.
    #[wasm_bindgen(js_name = predictBatchText)]
    pub fn predict_batch_text(&mut self, body: &str, content_type: Option<String>) -> String {
        match BatchOptions::from_request("", content_type.as_deref(), ROWS_MAX) {
            Ok(options) => {
                let reply = self.service.predict_batch(body.as_bytes(), options, None, clock);
                self.count(&reply);
                text(reply)
            }
            Err(problem) => String::from_utf8_lossy(&problem.body).into_owned(),
        }
    }

    /// Starts to count what is observed, from nothing: `instance` is a random
    /// UUID. Without this nothing is counted.
    pub fn collect(&mut self, instance: &str) -> Result<(), JsError> {
        let id = delta::instance(instance).and_then(|digits| u128::from_str_radix(&digits, 16).ok());
        let id = id.ok_or_else(|| JsError::new("the instance is not a UUID"))?;
        let collector = Collector::new(self.service.model(), id, delta::SOURCE_BROWSER, 1.0);
        self.collector = Some(Box::new(collector));
        Ok(())
    }

    /// What was observed, counts and no values, as a modelet host takes it at
    /// `POST /observe`; the same again until it is acknowledged by `observed`.
    pub fn observations(&mut self) -> Option<String> {
        let delta = self.collector.as_mut()?.delta()?;
        Some(String::from_utf8_lossy(delta).into_owned())
    }

    /// Acknowledges what `observations` gave, or gives it up.
    pub fn observed(&mut self) {
        if let Some(collector) = &mut self.collector {
            collector.settle(Pushed::Acknowledged);
        }
    }

    fn count(&mut self, reply: &Reply) {
        if let Some(collector) = &mut self.collector {
            collector.observe(&Outcome::from(reply));
            collector.count(reply.problem.as_ref().map_or(200, |problem| problem.kind.status()));
        }
    }

    /// Runs the bundle's golden rows here; answers the indices of those whose
    /// answer differs in any byte.
    pub fn verify(&mut self) -> Vec<u32> {
        let rows = std::mem::take(&mut self.golden.rows);
        let differing = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| {
                let answer = text(self.service.predict(row.request.as_bytes(), None, clock));
                comparable(&answer) != row.answer
            })
            .map(|(index, _)| index as u32)
            .collect();
        self.golden.rows = rows;
        differing
    }

    /// The number of golden rows.
    #[wasm_bindgen(getter, js_name = goldenRows)]
    pub fn golden_rows(&self) -> u32 {
        self.golden.rows.len() as u32
    }
}

fn text(reply: Reply) -> String {
    let body = match reply.problem {
        None => reply.body,
        Some(problem) => problem.body,
    };
    String::from_utf8_lossy(&body).into_owned()
}

fn to_js(value: &impl Serialize) -> Result<JsValue, JsError> {
    Ok(value.serialize(&Serializer::json_compatible())?)
}
