//! docs/kubernetes.md: every path, object, secret and command on it exists.
