//! What the tests of whole systems share: real processes on free ports, a browser, and waiting.
//!
//! It promises that no process outlives its test, and that a failing test shows the logs of all of them.

mod browser;
mod load;
mod ports;
mod process;
mod system;
mod wait;

pub(crate) use browser::{Browser, Listener, Outcome};
pub(crate) use load::Load;
pub(crate) use ports::free as free_ports;
pub(crate) use process::Process;
pub(crate) use system::{StateHash, System};
pub(crate) use wait::eventually;
