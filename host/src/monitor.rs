//! What the host watches of its models over time: windows of observations,
//! ground truth joined to predictions, alerts, retrain triggers, and where all
//! of it is kept.

pub mod feedback;
pub mod observed;
pub mod span;
pub mod status;
pub mod store;
pub mod watch;
