//! The checkers let good histories pass and find each of the known kinds of bad ones.

mod bugs;
mod good;
mod large;
mod mutations;
mod simulated;
