//! Closes a descriptor at once, though other tests start programs meanwhile.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::sync::{PoisonError, RwLock};

/// Between fork(2) and execve(2) a new program has a copy of every descriptor of this process. What is
/// closed here meanwhile stays open until then, and on a busy machine that takes long.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program. Blocks until it has called execve(2).
pub fn start(command: &mut Command) -> std::io::Result<Child> {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// A descriptor that is really closed once this is dropped.
pub struct Closing<T>(Option<T>);

impl<T> Closing<T> {
    pub fn new(descriptor: T) -> Self {
        Self(Some(descriptor))
    }
}

impl<T> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for Closing<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        let _none_starts = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        self.0 = None;
    }
}
