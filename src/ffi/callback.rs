//! A caller's function with its data.

use std::ffi::c_void;

use super::call::call_host;

/// Called once, when the library no longer needs `user_data`.
///
/// @runs at release.
/// @calls any.
pub type dbss_destroy_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// A function `F` of the caller's, its data, and the end of that.
pub(super) struct Callback<F> {
    function: F,
    user_data: *mut c_void,
    destroy: dbss_destroy_fn,
}

// SAFETY: the header tells the caller on which threads a callback runs, and to
// make its data fit for that; the library itself only hands the pointer back.
unsafe impl<F: Send> Send for Callback<F> {}
// SAFETY: as above.
unsafe impl<F: Sync> Sync for Callback<F> {}

impl<F> Callback<F> {
    /// Takes over the data: `destroy` runs when the value is dropped, so also
    /// when a setter refuses it.
    pub(super) fn new(function: F, user_data: *mut c_void, destroy: dbss_destroy_fn) -> Callback<F> {
        Callback {
            function,
            user_data,
            destroy,
        }
    }
}

impl<F: Copy> Callback<F> {
    /// Lets `call` call the function with its data.
    pub(super) fn call<T>(&self, call: impl FnOnce(F, *mut c_void) -> T) -> T {
        call_host(|| call(self.function, self.user_data))
    }
}

impl<F: Copy> Callback<Option<F>> {
    /// The same with its function; none, and the data is let go, where there is
    /// no function.
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
