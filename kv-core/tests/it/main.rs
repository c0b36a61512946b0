//! The state machine from outside: against a second model, against transcripts of etcd, and its refusals.

mod auth;
mod disk;
mod generate;
mod laws;
mod model;
mod scripts;
mod validation;
