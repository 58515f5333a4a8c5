use std::path::PathBuf;

/// How far a request that got no whole answer may have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// No byte of the request left this machine: the name was not resolved, the connection was refused or not
    /// made in time, the TLS handshake failed, or the request could not be built. The server has done nothing.
    NotSent,
    /// The request may have arrived: time-out, reset, half a body, a body over the limit, a body that can't be
    /// decoded. Whether the server acted on it has to be found out.
    Unknown,
}

/// A request without a whole answer. An answer with any status, 500 included, is a [`Response`](crate::Response).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TransportError {
    /// Whether the server can have seen the request.
    pub delivery: Delivery,
    /// True when a deadline of ours ended it: connecting or the whole exchange.
    pub timeout: bool,
    /// What happened, where: scheme, host and path of the URL, never its query, and no header or body text.
    pub text: String,
}

/// Options no client can be made from.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// The file can't be read.
    #[error("certificate file {}: {source}: give the path of a readable PEM file", path.display())]
    CaFileUnreadable {
        /// As configured.
        path: PathBuf,
        /// From the operating system.
        source: std::io::Error,
    },
    /// The file was read, but there is no usable certificate in it.
    #[error("certificate file {}: {reason}: give PEM text with one or more BEGIN CERTIFICATE blocks", path.display())]
    CaFileInvalid {
        /// As configured.
        path: PathBuf,
        /// What the parser missed.
        reason: String,
    },
    /// The HTTP or TLS stack refuses the options as a whole.
    #[error(
        "http client: {reason}: check the user agent and the certificate file, and that the system's CA \
         certificates are installed (package ca-certificates)"
    )]
    Refused {
        /// The stack's own words.
        reason: String,
    },
}
