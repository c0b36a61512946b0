//! Request counts, kept per app and not per process, so that tests and several apps in one process do not mix.

use http::{Method, StatusCode};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

const REQUESTS: &str = "quorate_web_http_requests_total";

/// Counts requests. Every label has few values: routes are patterns, not paths.
pub(crate) struct Meter {
    recorder: PrometheusRecorder,
}

impl Meter {
    pub(crate) fn new() -> Meter {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!(REQUESTS, "Requests answered, by route, method and status.");
        });
        Meter { recorder }
    }

    pub(crate) fn count(&self, route: &str, method: &Method, status: StatusCode) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            _ => "other",
        };
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!(REQUESTS, &labels).increment(1)
        });
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.recorder.handle().render()
    }
}
