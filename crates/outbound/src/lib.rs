#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod client;
mod error;
mod redact;
mod url;

pub use client::{HttpClient, HttpOptions, Request, Response};
pub use error::{Delivery, HttpSetupError, TransportError};
pub use redact::{REDACTED, redact};
pub use url::{BaseUrlError, base_url};
