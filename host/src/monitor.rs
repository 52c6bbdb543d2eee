//! What the host watches of its models over time: windows of observations,
//! ground truth joined to predictions, alerts, retrain triggers, and where all
//! of it is kept.

pub mod alerts;
pub mod config;
pub mod notify;
pub mod outbox;
pub mod rules;
pub mod store;
pub mod triggers;

#[cfg(test)]
mod tests;
