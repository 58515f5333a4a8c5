//! The OpenMetrics text format 1.0, which the metrics library doesn't write, and who asks for it.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::names::METRICS;

/// What a scrape in this format is labelled with.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` header prefers OpenMetrics 1.0 to the older text format.
pub(crate) fn is_preferred(accept: &str) -> bool {
    let (mut open, mut text) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1.0, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open = open.max(weight)
            }
            "text/plain" | "text/*" | "*/*" => text = text.max(weight),
            _ => {}
        }
    }
    open > 0.0 && open >= text
}

/// Families as text; nothing for a kind that we have none of.
pub(crate) fn encode(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        // A counter's family has no `_total`, its samples have.
        let name = match kind {
            "counter" => family.name().strip_suffix("_total").unwrap_or(family.name()),
            _ => family.name(),
        };
        line(&mut out, format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = unit(family.name(), name) {
            line(&mut out, format_args!("# UNIT {name} {unit}"));
        }
        line(&mut out, format_args!("# HELP {name} {}", escaped(family.help())));
        for metric in family.get_metric() {
            match kind {
                "counter" => sample(&mut out, name, "_total", metric, None, metric.get_counter().get_value()),
                "gauge" => sample(&mut out, name, "", metric, None, metric.get_gauge().get_value()),
                _ => histogram(&mut out, name, metric),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let of = metric.get_histogram();
    let count = of.get_sample_count() as f64;
    for bucket in of.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        // Bounds are written as floats, with a point.
        let bound = format!("{:?}", bucket.upper_bound());
        sample(out, name, "_bucket", metric, Some(&bound), bucket.cumulative_count() as f64);
    }
    sample(out, name, "_bucket", metric, Some("+Inf"), count);
    sample(out, name, "_count", metric, None, count);
    sample(out, name, "_sum", metric, None, of.get_sample_sum());
}

/// The unit of a family, where its name ends in it.
fn unit(name: &str, base: &str) -> Option<&'static str> {
    let ours = METRICS.iter().find(|info| info.name == name).map(|info| info.unit);
    // Those of the process aren't in the table.
    let units = ours.map_or(["seconds", "bytes"], |unit| [unit, unit]);
    units.into_iter().find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, bound: Option<&str>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = metric.get_label().iter().map(|pair: &LabelPair| (pair.name(), pair.value()));
    let mut separator = '{';
    for (label, text) in labels.chain(bound.map(|bound| ("le", bound))) {
        let _ = write!(out, "{separator}{label}=\"{}\"", escaped(text));
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    match value {
        f64::INFINITY => out.push_str(" +Inf\n"),
        f64::NEG_INFINITY => out.push_str(" -Inf\n"),
        value => line(out, format_args!(" {value}")),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text can't fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounter, Opts, Registry};

    use super::*;

    #[test]
    fn openmetrics_is_given_to_who_prefers_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in
            [prometheus, "application/openmetrics-text", "Application/OpenMetrics-Text; version=\"1.0.0\""]
        {
            assert!(is_preferred(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html, */*;q=0.1",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0, */*",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.3,text/plain;q=0.9",
        ] {
            assert!(!is_preferred(accept), "{accept}");
        }
    }

    #[test]
    fn every_kind_is_written_as_the_format_wants_it() {
        let registry = Registry::new();
        let counter = IntCounter::new("demo_errors_total", "Says \"no\".").unwrap();
        counter.inc_by(3);
        let gauge = GaugeVec::new(Opts::new("demo_open", "Odd\nlabels."), &["name"]).unwrap();
        gauge.with_label_values(&["a\\\"b\n"]).set(f64::NEG_INFINITY);
        let opts = HistogramOpts::new("demo_seconds", "Time.").buckets(vec![0.5, 900.0]);
        let histogram = HistogramVec::new(opts, &["stage"]).unwrap();
        histogram.with_label_values(&["load"]).observe(1.5);
        for collector in
            [Box::new(counter) as Box<dyn prometheus::core::Collector>, Box::new(gauge), Box::new(histogram)]
        {
            registry.register(collector).unwrap();
        }
        let expected = "\
# TYPE demo_errors counter
# HELP demo_errors Says \\\"no\\\".
demo_errors_total 3
# TYPE demo_open gauge
# HELP demo_open Odd\\nlabels.
demo_open{name=\"a\\\\\\\"b\\n\"} -Inf
# TYPE demo_seconds histogram
# UNIT demo_seconds seconds
# HELP demo_seconds Time.
demo_seconds_bucket{stage=\"load\",le=\"0.5\"} 0
demo_seconds_bucket{stage=\"load\",le=\"900.0\"} 1
demo_seconds_bucket{stage=\"load\",le=\"+Inf\"} 1
demo_seconds_count{stage=\"load\"} 1
demo_seconds_sum{stage=\"load\"} 1.5
# EOF
";
        assert_eq!(encode(&registry.gather()), expected);
    }
}
