//! What is off until somebody asks for it.

use std::fs;

use kingpost_settings::{ExposeSecret, TraceSampler, TraceSettings, extractor, transformer};

use super::{MARKER, named, with};

#[test]
fn pushing_is_off_until_it_has_an_address_and_then_needs_a_token() {
    let push = |more: &[(&str, &str)]| extractor(&with(&[], more), &[]).map(|settings| settings.push);
    // A token alone may be there for another program of the same environment.
    assert!(push(&[("PUSH_TOKEN", "short"), ("PUSH_MAX_BYTES", "x")]).unwrap().is_none());
    let on = [("PUSH_ADDR", "127.0.0.1:9111"), ("PUSH_TOKEN", "s3cr3t-marker-0123")];
    let settings = push(&on).unwrap().unwrap();
    assert_eq!((settings.addr.port(), settings.max_bytes), (9111, 8 * 1024 * 1024));
    assert_eq!(settings.token.current().unwrap().expose_secret(), "s3cr3t-marker-0123");
    assert!(!format!("{settings:?}").contains(MARKER));
    for (more, variable) in [
        (&[("PUSH_ADDR", "127.0.0.1:9111")][..], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN", "s3cr3t-marker")], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN", "s3cr3t-marker with blanks")], "PUSH_TOKEN"),
        (&[on[0], ("PUSH_TOKEN_FILE", "/nowhere/at/all")], "PUSH_TOKEN_FILE"),
        (&[on[0], on[1], ("PUSH_MAX_BYTES", "1023")], "PUSH_MAX_BYTES"),
        (&[on[0], on[1], ("PUSH_MAX_BYTES", "15728641")], "PUSH_MAX_BYTES"),
        (&[("PUSH_ADDR", "localhost"), on[1]], "PUSH_ADDR"),
    ] {
        let problems = push(more).unwrap_err();
        assert_eq!(named(&problems), [variable], "{problems}");
        assert!(!problems.to_string().contains(MARKER), "{problems}");
    }
}

#[test]
fn spans_are_sent_nowhere_until_there_is_a_collector_and_then_what_is_wrong_is_said() {
    let traces = |more: &[(&str, &str)]| transformer(&with(&[], more)).map(|settings| settings.worker.traces);
    // A whole machine may share what isn't about us.
    let others = [("OTEL_TRACES_SAMPLER", "jaeger_remote"), ("OTEL_TRACES_SAMPLER_ARG", "endpoint=x")];
    assert!(traces(&others).unwrap().is_none());
    let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
    let expected = TraceSettings {
        endpoint: "http://127.0.0.1:4318".into(),
        service_name: "kingpost-transformer".into(),
        sampler: TraceSampler::ParentOrOn,
    };
    assert_eq!(traces(&[on]).unwrap(), Some(expected.clone()));
    let more = [on, ("OTEL_SERVICE_NAME", "north"), ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")];
    let north = TraceSettings { service_name: "north".into(), ..expected };
    let sampled =
        |share| Some(TraceSettings { sampler: TraceSampler::ParentOrRatio(share), ..north.clone() });
    assert_eq!(traces(&more).unwrap(), sampled(1.0));
    let more = [more[0], more[1], more[2], ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
    assert_eq!(traces(&more).unwrap(), sampled(0.25));
    for (more, variable) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")][..], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:s3cr3t@b")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[on, others[0]], "OTEL_TRACES_SAMPLER"),
        (&[on, ("OTEL_TRACES_SAMPLER_ARG", "1.5")], "OTEL_TRACES_SAMPLER_ARG"),
        (&[on, ("OTEL_TRACES_SAMPLER_ARG", "NaN")], "OTEL_TRACES_SAMPLER_ARG"),
    ] {
        let problems = traces(more).unwrap_err();
        assert_eq!(named(&problems), [variable], "{problems}");
    }
}

#[test]
fn a_push_token_in_a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "the-token-of-yesterday\n").unwrap();
    let path = file.path().to_str().unwrap();
    let environment = with(&[], &[("PUSH_ADDR", "127.0.0.1:9111"), ("PUSH_TOKEN_FILE", path)]);
    let token = extractor(&environment, &[]).unwrap().push.unwrap().token;
    assert_eq!(token.current().unwrap().expose_secret(), "the-token-of-yesterday");
    fs::write(file.path(), "the-token-of-today").unwrap();
    assert_eq!(token.current().unwrap().expose_secret(), "the-token-of-today");
    fs::write(file.path(), "short").unwrap();
    assert!(!token.current().unwrap_err().to_string().contains("short"));
    fs::remove_file(file.path()).unwrap();
    assert!(token.current().is_err());
}
