//! The rows of membership and upkeep.

use http::StatusCode as Http;
use tonic::Code;

use super::{NO_LEADER, Row, row, unknown};
use crate::{membership::rules::Refusal, node::ChangeError};

/// Why a call of the Maintenance service was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepError {
    /// Only the leader hands leadership over.
    #[error("not leader")]
    NotLeader,
    /// The next leader must be a voter.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The next leader has not taken over in time; it may yet.
    #[error("leader transfer took too long")]
    TransferTimedOut,
    /// The version to go back to is no version.
    #[error("wrong version format")]
    DowngradeFormat,
    /// There is no release to go back to.
    #[error("invalid downgrade target")]
    DowngradeTarget,
    /// There is nothing to cancel.
    #[error("no downgrade")]
    NoDowngrade,
    /// The request names an action that does not exist.
    #[error("unknown action")]
    UnknownAction,
}

pub(super) fn change(error: &ChangeError) -> Row {
    match error {
        ChangeError::Refused(refusal) => refused(*refusal),
        ChangeError::NoLeader => NO_LEADER,
        ChangeError::Unknown => unknown("timed_out", "etcdserver: request timed out"),
    }
}

fn refused(refusal: Refusal) -> Row {
    let conflict = |name, message| row(Code::FailedPrecondition, Http::CONFLICT, name, message);
    match refusal {
        Refusal::PeerUrlsExist => conflict("peer_urls_exist", "etcdserver: Peer URLs already exists"),
        Refusal::BadUrls => row(
            Code::InvalidArgument,
            Http::BAD_REQUEST,
            "bad_urls",
            "etcdserver: given member URLs are invalid",
        ),
        Refusal::IdExists => conflict("member_exists", "etcdserver: member ID already exist"),
        Refusal::NotFound => row(
            Code::NotFound,
            Http::NOT_FOUND,
            "member_not_found",
            "etcdserver: member not found",
        ),
        Refusal::NotLearner => conflict("not_learner", "etcdserver: can only promote a learner member"),
        Refusal::LearnerNotReady => conflict(
            "learner_not_ready",
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        Refusal::TooManyLearners => conflict(
            "too_many_learners",
            "etcdserver: too many learner members in cluster",
        ),
        // etcd gives this one no code of its own.
        Refusal::NotEnoughStarted => row(
            Code::Unknown,
            Http::CONFLICT,
            "not_enough_started",
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        Refusal::Unhealthy => row(
            Code::Unavailable,
            Http::SERVICE_UNAVAILABLE,
            "unhealthy",
            "etcdserver: unhealthy cluster",
        ),
        Refusal::TooFewVoters => conflict(
            "too_few_voters",
            "fewer voters than --min-voters would be left, and no learner can take this one's place",
        ),
    }
}

pub(super) fn upkeep(error: UpkeepError) -> Row {
    let failed = |name, message| row(Code::FailedPrecondition, Http::CONFLICT, name, message);
    let invalid = |name, message| row(Code::InvalidArgument, Http::BAD_REQUEST, name, message);
    match error {
        UpkeepError::NotLeader => failed("not_leader", "etcdserver: not leader"),
        UpkeepError::BadTransferee => failed("bad_transferee", "etcdserver: bad leader transferee"),
        UpkeepError::TransferTimedOut => row(
            Code::Unavailable,
            Http::GATEWAY_TIMEOUT,
            "transfer_timed_out",
            "etcdserver: request timed out, leader transfer took too long",
        ),
        UpkeepError::DowngradeFormat => invalid(
            "downgrade_format",
            "etcdserver: wrong downgrade target version format",
        ),
        UpkeepError::DowngradeTarget => {
            invalid("downgrade_target", "etcdserver: invalid downgrade target version")
        }
        UpkeepError::NoDowngrade => failed("no_downgrade", "etcdserver: no inflight downgrade job"),
        UpkeepError::UnknownAction => row(
            Code::Unknown,
            Http::BAD_REQUEST,
            "unknown_action",
            "etcdserver: unknown method",
        ),
    }
}

#[cfg(test)]
pub(super) fn all() -> Vec<super::ApiError> {
    use super::ApiError;
    let refusals = [
        Refusal::PeerUrlsExist,
        Refusal::BadUrls,
        Refusal::IdExists,
        Refusal::NotFound,
        Refusal::NotLearner,
        Refusal::LearnerNotReady,
        Refusal::TooManyLearners,
        Refusal::NotEnoughStarted,
        Refusal::Unhealthy,
        Refusal::TooFewVoters,
    ];
    let upkeep = [
        UpkeepError::NotLeader,
        UpkeepError::BadTransferee,
        UpkeepError::TransferTimedOut,
        UpkeepError::DowngradeFormat,
        UpkeepError::DowngradeTarget,
        UpkeepError::NoDowngrade,
        UpkeepError::UnknownAction,
    ];
    let changes = [ChangeError::NoLeader, ChangeError::Unknown];
    let mut all: Vec<ApiError> = changes.map(ApiError::from).into();
    all.extend(refusals.map(|refusal| ApiError::from(ChangeError::from(refusal))));
    all.extend(upkeep.map(ApiError::from));
    all
}

#[cfg(test)]
mod tests {
    use super::{super::ApiError, *};

    #[test]
    fn texts_of_refusals_are_the_same_here_and_there() {
        for error in all() {
            if let ApiError::Members(ChangeError::Refused(refusal)) = error {
                assert_eq!(refused(refusal).message, refusal.to_string());
            }
        }
    }
}
