//! `quorate chaos`: a real cluster under load, faults one after the other, and a verdict on what clients saw.
//!
//! A run promises to leave nothing behind but its folder: its processes end with it, however it ends. What it finds is
//! in the folder, and its exit code is 0 where nothing is wrong, 1 where a promise was broken, and 2 where it cannot tell.

pub mod cli;
mod cluster;
mod fault;
mod final_state;
mod gaps;
mod kind;
mod observer;
mod partition;
mod report;
mod run;
mod sandbox;
mod workload;
