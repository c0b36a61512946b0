//! Who asks.

use serde::{Deserialize, Serialize};

/// Who asks for something, as the log carries it with a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// A node, of its own accord: it may do everything.
    Node,
    /// A client that did not say who it is: it may do nothing while authentication is on.
    Anonymous,
    /// A client that has shown who it is.
    User {
        /// The user's name.
        name: String,
        /// The auth revision at which it has: a later change of the user's credentials ends it.
        revision: u64,
    },
}
