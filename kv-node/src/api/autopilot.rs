//! `GET /v1/cluster/autopilot`: what the leader sees of the members, and is about to change, as JSON. Open to all, like
//! the list of members. The fields are those of [`Report`](crate::membership::report::Report).

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;

use super::{calls::Api, errors::ApiError, problem::Problem};
use crate::{membership::report::NoReport, node::ChangeError};

/// The route.
pub(super) fn router() -> Router<Api> {
    Router::new().route("/v1/cluster/autopilot", get(serve))
}

async fn serve(State(api): State<Api>) -> Response {
    let report = api.node().membership().ask_for_report(api.deadline()).await;
    let response = match report {
        Ok(report) => Json(report).into_response(),
        Err(NoReport::NoLeader) => Problem::from(ApiError::from(ChangeError::NoLeader)).into_response(),
        Err(error @ NoReport::Untold(_)) => {
            Problem::new(StatusCode::BAD_GATEWAY, "leader_does_not_tell", error.to_string()).into_response()
        }
    };
    api.metrics().rest(response.status());
    response
}
