//! A callback function of the caller, with its data.

use std::ffi::c_void;

use super::call::call_host;

/// Called once, when the library no longer needs `user_data`.
///
/// @runs at release.
/// @calls any.
pub type dbss_destroy_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// A function `F` of the caller, its data, and the function that releases the
/// data.
pub(super) struct Callback<F> {
    function: F,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
}

// SAFETY: the header says on which threads a callback runs, and the caller's
// data must be suitable for them; the library only passes the pointer back.
unsafe impl<F: Send> Send for Callback<F> {}
// SAFETY: as above.
unsafe impl<F: Sync> Sync for Callback<F> {}

impl<F> Callback<F> {
    /// Takes ownership of the data. `destroy` runs when the value is dropped,
    /// also when a setter fails.
    pub(super) fn new(function: F, user_data: *mut c_void, destroy: dbss_destroy_fn) -> Callback<F> {
        Callback {
            function,
            user_data,
            destroy,
        }
    }
}

impl<F: Copy> Callback<F> {
    /// Runs `call` with the function and its data.
    pub(super) fn call<T>(&self, call: impl FnOnce(F, *mut c_void) -> T) -> T {
        call_host(|| call(self.function, self.user_data))
    }
}

impl<F: Copy> Callback<Option<F>> {
    /// Unwraps the function. If it is NULL, returns none and releases the data.
    pub(super) fn with_function(mut self) -> Option<Callback<F>> {
        let function = self.function?;
        Some(Callback::new(function, self.user_data, self.destroy.take()))
    }
}

impl<F> Drop for Callback<F> {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy.take() {
            // SAFETY: the caller's function for this data, called once.
            call_host(|| unsafe { destroy(self.user_data) });
        }
    }
}
