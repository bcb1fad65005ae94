//! What a context tells its log callback. Never a secret.

/// How much a message matters; the values are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// A call failed.
    Error = 1,
    /// Something went wrong that the library dealt with.
    Warning = 2,
    /// What a call did.
    Info = 3,
    /// What went over the wire.
    Debug = 4,
}

/// Takes messages, from any thread.
pub trait Log: Send + Sync {
    /// Takes one message: a line without its end.
    fn log(&self, level: Level, message: &str);
}
