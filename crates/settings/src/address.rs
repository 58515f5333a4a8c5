//! The parts of a URL, as far as settings need to check them.

/// `scheme://[user[:password]@]host[:port][/path][?query][#fragment]`, cut but not decoded.
pub(crate) struct Address<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    /// With its leading slash; empty when the URL ends after the port.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) fragment: bool,
}

impl<'a> Address<'a> {
    /// Cuts a URL. The error says what is wrong with it and holds no part of it, as a part may be a password.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no :// after a scheme")?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it has a blank inside");
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, false), |(rest, _)| (rest, true));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(u, p)| (Some(u), p));
        if user.is_some_and(|user| user.contains('@')) || path.contains('@') {
            return Err("an @ or / in the user or password must be written as %40 or %2f");
        }
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err("it names no host");
        }
        Ok(Address { scheme, user, host, port, path, query, fragment })
    }

    /// A copy of `text` that is an http or https URL to call: no user, query or fragment.
    pub(crate) fn web(text: &'a str) -> Result<Self, &'static str> {
        let address = Self::parse(text)?;
        if !matches!(address.scheme, "http" | "https") {
            return Err("its scheme is neither http nor https");
        }
        if address.user.is_some() {
            return Err("it holds a user, which has its own variable");
        }
        if address.query.is_some() || address.fragment {
            return Err("it has a query or a fragment");
        }
        Ok(address)
    }
}

/// Whether every `%` is followed by two hexadecimal digits.
pub(crate) fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// The text with every `%41` as its byte; nothing when that is no UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// User and password of a URL, decoded.
pub(crate) fn user_and_password(user: &str) -> Option<(String, String)> {
    let (user, password) = user.split_once(':')?;
    Some((percent_decoded(user)?, percent_decoded(password)?))
}

fn split_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    let after_literal = place.find(']').map_or(0, |end| end + 1);
    let Some(colon) = place[after_literal..].rfind(':').map(|at| at + after_literal) else {
        return Ok((place, None));
    };
    match place[colon + 1..].parse() {
        Ok(port) if port > 0 => Ok((&place[..colon], Some(port))),
        _ => Err("its port is not a number from 1 to 65535"),
    }
}
