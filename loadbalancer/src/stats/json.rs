//! The snapshot as JSON.

use super::Snapshot;

/// The whole document.
pub(super) fn document(snapshot: &Snapshot) -> String {
    let mut text = serde_json::to_string_pretty(snapshot)
        .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }).to_string());
    text.push('\n');
    text
}
