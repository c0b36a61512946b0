//! `/livez`, `/readyz` and `/metrics`.
//!
//! The app is ready as soon as it serves pages: without a majority of the store it still has a clear answer for a
//! person, and a balancer that took every instance out would put its own blank error in its place. So the state of the
//! store is shown by `/readyz` as a check, but does not turn it into a 503.

use crate::app::App;
use crate::registry::StoreError;
use axum::extract::State;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

type Text = ([(HeaderName, &'static str); 1], String);

fn text(body: String) -> Text {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body)
}

/// Alive: the process answers.
pub(crate) async fn livez() -> Text {
    text("ok\n".to_owned())
}

/// Ready: pages are served; with the state of the store as one linearizable read within a second finds it.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Text {
    let store = match app.registry.check().await {
        Ok(()) => "[+]store ok".to_owned(),
        Err(StoreError::NoQuorum(_)) => "[-]store has no majority (pages say so)".to_owned(),
        Err(error) => format!("[-]store {error} (pages say so)"),
    };
    text(format!("[+]pages ok\n{store}\nok\n"))
}

/// The request counts.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Text {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.meter.render(),
    )
}
