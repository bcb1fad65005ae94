//! Who we are: the credentials that go with a request.

mod token;

pub(crate) use token::{FixedToken, Token};
