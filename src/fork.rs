//! Values that each process has separately, although `fork` copies them.

use once_cell::race::OnceBox;

use crate::error::{Error, Status};
use crate::sys;

/// A value for each process: a chain with one value for each generation of `fork`.
///
/// A child must not use the inherited value: threads that do not exist in the child may
/// hold its locks, and the connections are the parent's. So each process searches the
/// chain for the value with its own number, or appends one. Nothing here blocks.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: usize,
    /// `None` once it is dropped.
    value: Option<T>,
    child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    /// Makes the value of this process.
    pub(crate) fn new(value: T) -> PerProcess<T> {
        PerProcess {
            process: sys::process(),
            value: Some(value),
            child: OnceBox::new(),
        }
    }

    /// Returns the value of the current process; makes it if it is missing.
    pub(crate) fn get_or_try_init(&self, make: impl Fn() -> Result<T, Error>) -> Result<&T, Error> {
        let own = sys::process();
        let mut link = self;
        while link.process != own {
            link = link
                .child
                .get_or_try_init(|| make().map(|value| Box::new(PerProcess::new(value))))?;
        }
        link.value
            .as_ref()
            .ok_or_else(|| Error::new(Status::Internal, "the state of this process was dropped"))
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.process != sys::process() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn get(value: &PerProcess<Rc<()>>) -> &Rc<()> {
        value.get_or_try_init(|| Ok(Rc::new(()))).expect("a value")
    }

    #[test]
    fn each_process_has_and_drops_only_its_own_value() {
        let ours = Rc::new(());
        let mut value = PerProcess::new(Rc::clone(&ours));
        assert!(Rc::ptr_eq(get(&value), &ours));
        // As in a child of the process that made it.
        value.process ^= 1;
        let childs = Rc::clone(get(&value));
        assert!(!Rc::ptr_eq(&childs, &ours));
        assert!(Rc::ptr_eq(get(&value), &childs));
        drop(value);
        assert_eq!(Rc::strong_count(&ours), 2, "left alone");
        assert_eq!(Rc::strong_count(&childs), 1, "dropped");
    }
}
