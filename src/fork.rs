//! What each process has for itself, though `fork` copied it.

use once_cell::race::OnceBox;

use crate::error::{Error, Status};
use crate::sys;

/// A value of one process, and that of its child, where `fork` made one.
///
/// A child must not touch what it inherited: its locks may be held by threads
/// that do not exist there, and its connections are the parent's. So each
/// process finds the value with its own number in this chain, or appends it;
/// nothing here blocks.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    process: usize,
    /// None once it is dropped.
    value: Option<T>,
    child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    /// The value of this process.
    pub(crate) fn new(value: T) -> PerProcess<T> {
        PerProcess {
            process: sys::process(),
            value: Some(value),
            child: OnceBox::new(),
        }
    }

    /// The value of the process that asks, made where it has none.
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
            .ok_or_else(|| Error::new(Status::Internal, "what belongs to this process is gone"))
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
    fn each_process_has_one_of_its_own_and_drops_no_other() {
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
