//! The trace that a message belongs to, as W3C Trace Context (level 1) writes it.

use std::num::{NonZeroU64, NonZeroU128};

use crate::Work;

/// Longest `tracestate` that is carried on, in bytes; a longer one is left out whole, as a cut one would be wrong.
pub const TRACESTATE_BYTES_MAX: usize = 512;
/// Members of a `tracestate`.
const MEMBERS_MAX: usize = 32;
/// Bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// A place in a trace: whose work something is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    span_id: NonZeroU64,
    sampled: bool,
    state: Option<String>,
}

impl TraceContext {
    /// The first place of a trace. An id of 0, which stands for none, becomes 1.
    pub fn root(trace_id: u128, span_id: u64, sampled: bool) -> Self {
        let trace_id = NonZeroU128::new(trace_id).unwrap_or(NonZeroU128::MIN);
        let span_id = NonZeroU64::new(span_id).unwrap_or(NonZeroU64::MIN);
        TraceContext { trace_id, span_id, sampled, state: None }
    }

    /// Reads a `traceparent` with its `tracestate`. Anything malformed gives nothing, and never an error: a new trace is
    /// begun then. A malformed `tracestate` is left out. Of a later version the part is read that it shares with 00.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let bytes = parent.as_bytes();
        let digits = |from: usize, to: usize| {
            let part = bytes.get(from..to)?;
            let lower = part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            std::str::from_utf8(part).ok().filter(|_| lower)
        };
        let version = digits(0, 2)?;
        let whole = match version {
            "ff" => false,
            "00" => bytes.len() == PARENT_BYTES,
            _ => matches!(bytes.get(PARENT_BYTES), None | Some(b'-')),
        };
        if !whole || [2, 35, 52].iter().any(|at| bytes.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = NonZeroU128::new(u128::from_str_radix(digits(3, 35)?, 16).ok()?)?;
        let span_id = NonZeroU64::new(u64::from_str_radix(digits(36, 52)?, 16).ok()?)?;
        // Of the flags only this one means anything in level 1; what else is set must not be passed on.
        let sampled = u8::from_str_radix(digits(53, 55)?, 16).ok()? & 1 == 1;
        let state = state.filter(|state| is_state(state)).map(str::to_owned);
        Some(TraceContext { trace_id, span_id, sampled, state })
    }

    /// Another place in the same trace, whose parent is this one.
    #[must_use]
    pub fn child(&self, span_id: u64) -> Self {
        let span_id = NonZeroU64::new(span_id).unwrap_or(NonZeroU64::MIN);
        TraceContext { span_id, ..self.clone() }
    }

    /// The same place, recorded or not.
    #[must_use]
    pub fn sampled(self, sampled: bool) -> Self {
        TraceContext { sampled, ..self }
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id.get()
    }

    /// The id of the place.
    pub fn span_id(&self) -> u64 {
        self.span_id.get()
    }

    /// Whether the one before recorded its span.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// What tracing systems tell each other, unread.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The value of the header `traceparent`, in version 00.
    pub fn traceparent(&self) -> String {
        // By hand, as every message of every stage gets one.
        let mut text = String::with_capacity(PARENT_BYTES);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id.get().to_be_bytes());
        text.push('-');
        push_hex(&mut text, &self.span_id.get().to_be_bytes());
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }
}

impl Work {
    /// The place in a trace that the message came with.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.traceparent.as_deref()?, self.tracestate.as_deref())
    }

    /// Puts the message behind another place.
    pub fn set_trace(&mut self, context: &TraceContext) {
        self.traceparent = Some(context.traceparent());
        self.tracestate = context.state().map(str::to_owned);
    }

    /// The trace's id and the place's id as hexadecimal digits, for log lines; empty where the message has none.
    pub fn trace_ids(&self) -> (&str, &str) {
        let known = self.traceparent.as_deref().filter(|text| TraceContext::parse(text, None).is_some());
        let part = |from, to| known.and_then(|text| text.get(from..to)).unwrap_or_default();
        (part(3, 35), part(36, 52))
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 });
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
}

/// Whether a text is a `tracestate`: `vendor=value`, or `tenant@vendor=value`, with commas between, each vendor once.
fn is_state(text: &str) -> bool {
    if text.is_empty() || text.len() > TRACESTATE_BYTES_MAX {
        return false;
    }
    let members: Vec<&str> =
        text.split(',').map(|part| part.trim_matches([' ', '\t'])).filter(|part| !part.is_empty()).collect();
    let keys: Option<Vec<&str>> = members.iter().map(|member| key_of(member)).collect();
    keys.is_some_and(|keys| {
        let once = keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key));
        !keys.is_empty() && keys.len() <= MEMBERS_MAX && once
    })
}

/// The key of a member, when the member is one.
fn key_of(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let sign = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let part = |text: &str, longest: usize, digit_first: bool| {
        let first = text.bytes().next();
        let begins =
            first.is_some_and(|byte| byte.is_ascii_lowercase() || (digit_first && byte.is_ascii_digit()));
        begins && text.len() <= longest && text.as_bytes().iter().all(sign)
    };
    let named = match key.split_once('@') {
        Some((tenant, vendor)) => part(tenant, 241, true) && part(vendor, 14, false),
        None => part(key, 256, false),
    };
    let valued = (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='));
    (named && valued).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordKey, StageName, WorkId};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_again() {
        let read = TraceContext::parse(GOOD, Some("vendor=1,tenant@other=a b")).unwrap();
        assert_eq!(read.traceparent(), GOOD);
        assert_eq!((read.trace_id(), read.span_id()), (0x4bf92f3577b34da6a3ce929d0e0e4736, 0xf067aa0ba902b7));
        assert_eq!((read.is_sampled(), read.state()), (true, Some("vendor=1,tenant@other=a b")));
        let child = read.child(7);
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
        assert_eq!(child.state(), read.state());
        assert_eq!(TraceContext::root(0, 0, false).trace_id(), 1, "an id of nothing but zeros is none");
    }

    #[test]
    fn anything_malformed_begins_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e47采-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_the_known_part_is_read_and_unknown_flags_are_not_passed_on() {
        for (text, written) in [
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01"),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-the-future-will-be", "00"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", "00"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", "01"),
        ] {
            let again = TraceContext::parse(text, None).unwrap().traceparent();
            assert_eq!(again, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{written}"));
        }
    }

    #[test]
    fn a_malformed_state_is_left_out_and_the_parent_kept() {
        let long = format!("a={}", "x".repeat(600));
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        for bad in [
            "",
            ",",
            "a",
            "=v",
            "a=",
            "A=v",
            "a=v,a=w",
            "1a=v",
            "a@1=v",
            "a=b=c",
            "a=\u{1}",
            &long,
            &many.join(","),
        ] {
            let read = TraceContext::parse(GOOD, Some(bad)).unwrap();
            assert_eq!((read.traceparent().as_str(), read.state()), (GOOD, None), "{bad}");
        }
        for good in ["a=v", "a=v, b=w", "a=v,,b=w", "0a@b=v", "a_-*/9=x y"] {
            assert_eq!(TraceContext::parse(GOOD, Some(good)).unwrap().state(), Some(good));
        }
    }

    #[test]
    fn a_message_tells_its_ids_and_takes_others() {
        let key = RecordKey::new("d", "n");
        let mut work = Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}");
        assert_eq!((work.trace(), work.trace_ids()), (None, ("", "")));
        work.traceparent = Some("nonsense-采购".into());
        assert_eq!((work.trace(), work.trace_ids()), (None, ("", "")));
        work.set_trace(&TraceContext::parse(GOOD, Some("a=v")).unwrap());
        assert_eq!(work.trace_ids(), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        assert_eq!(work.tracestate.as_deref(), Some("a=v"));
        work.set_trace(&TraceContext::root(1, 2, false));
        assert_eq!(work.tracestate, None, "a state belongs to its trace");
    }
}
