use reqwest::Url;

/// Why a text is not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Nothing was given.
    #[error("the address is empty: write it with its scheme, as in https://erp.example.com/path")]
    Empty,
    /// No URL at all, or one without a scheme.
    #[error(
        "the address is not an absolute URL ({reason}): write it with its scheme, as in https://erp.example.com/path"
    )]
    Invalid {
        /// The parser's words.
        reason: String,
    },
    /// Neither http nor https.
    #[error("the address has the scheme {scheme:?}: use https (or http inside a trusted network)")]
    Scheme {
        /// As written.
        scheme: String,
    },
    /// User name or password inside the URL; the text is not repeated, because it is a secret.
    #[error(
        "the address contains a user name or password: remove the part before the @, credentials have their own settings"
    )]
    UserInfo,
    /// A `?` or a `#`.
    #[error("the address contains {mark:?}: end it before that, parameters are added for each call")]
    QueryOrFragment {
        /// `?` or `#`.
        mark: char,
    },
}

/// Checks the address of a service and returns it as it will go on the wire (lower-case host, encoded path,
/// default port left out), without a trailing slash, so that a path can be joined with one `/` and the joined
/// text is exactly what is sent and signed.
///
/// # Errors
/// [`BaseUrlError`], whose text says what is wrong and how to mend it, and contains no credentials.
pub fn base_url(text: &str) -> Result<String, BaseUrlError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(BaseUrlError::Empty);
    }
    let url = Url::parse(text).map_err(|error| BaseUrlError::Invalid { reason: error.to_string() })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(if text.contains("://") {
            BaseUrlError::Scheme { scheme: url.scheme().to_owned() }
        } else {
            // `localhost:8080/path` parses as the scheme `localhost`, which would be a puzzling message.
            BaseUrlError::Invalid { reason: "no scheme".to_owned() }
        });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BaseUrlError::UserInfo);
    }
    if url.query().is_some() {
        return Err(BaseUrlError::QueryOrFragment { mark: '?' });
    }
    if url.fragment().is_some() {
        return Err(BaseUrlError::QueryOrFragment { mark: '#' });
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Scheme, host, port and path of `text`: what a message may say about where a request went.
pub(crate) fn place(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) => {
            url.set_query(None);
            url.set_fragment(None);
            // Both refuse only URLs that can have no user part, which then have none to hide.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.into()
        }
        Err(_) => "(unparsable URL)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_is_sent_without_a_trailing_slash() {
        for (given, sent) in [
            ("https://erp.example.com/K3Cloud/", "https://erp.example.com/K3Cloud"),
            ("HTTPS://ERP.example.com:443/k3cloud", "https://erp.example.com/k3cloud"),
            (" http://10.1.2.3:8080/k3cloud// ", "http://10.1.2.3:8080/k3cloud"),
            ("https://gw.example.com", "https://gw.example.com"),
            ("http://[::1]:9/router/qm", "http://[::1]:9/router/qm"),
        ] {
            assert_eq!(base_url(given), Ok(sent.to_owned()), "{given}");
        }
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong_and_what_to_do() {
        for (given, said) in [
            ("", "is empty"),
            ("erp.example.com/k3cloud", "write it with its scheme"),
            ("localhost:8080/k3cloud", "no scheme"),
            ("ftp://erp.example.com", "use https"),
            ("https://", "empty host"),
            ("https://user:pw@erp.example.com", "remove the part before the @"),
            ("https://erp.example.com/?a=1", "'?'"),
            ("https://erp.example.com/#a", "'#'"),
        ] {
            let text = base_url(given).unwrap_err().to_string();
            assert!(text.contains(said), "{given}: {text}");
        }
    }

    #[test]
    fn no_message_repeats_credentials() {
        let error = base_url("https://user:planted-pw@erp.example.com/x?y=planted-pw").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"));
        assert_eq!(place("https://u:planted@h.example/p/q?sign=planted#planted"), "https://h.example/p/q");
        assert_eq!(place("planted?"), "(unparsable URL)");
    }
}
