//! The dashboard: every panel once, and the JSON that Grafana reads.

mod panels;

use serde_json::{Value, json};

use super::rules::RUNBOOKS;

/// Where it is kept.
pub const DASHBOARD: &str = "deploy/grafana/dashboards/kingpost.json";

/// How many columns a dashboard has.
const COLUMNS: u64 = 24;

/// A row of panels under a title.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its title.
    pub title: &'static str,
    /// Its panels, from left to right, as many lines as they need.
    pub panels: &'static [Panel],
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// How it is drawn.
    pub look: Look,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// What it says, and when to worry.
    pub about: &'static str,
    /// Expressions with the names of their lines.
    pub queries: &'static [(&'static str, &'static str)],
    /// The alerts that belong to it.
    pub alerts: &'static [&'static str],
}

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One number, red from this value on; with nothing it is never red.
    Number(Option<u32>),
    /// One number, red while it is zero.
    Flag,
    /// Lines over time.
    Lines,
    /// Lines over time, each filled and on top of the last.
    Stack,
}

impl Look {
    const fn is_small(self) -> bool {
        matches!(self, Look::Number(_) | Look::Flag)
    }

    /// Width and height in Grafana's grid.
    const fn size(self) -> (u64, u64) {
        if self.is_small() { (4, 4) } else { (8, 8) }
    }
}

/// Every row of the dashboard.
pub const fn rows() -> &'static [Row] {
    panels::ROWS
}

/// Every panel.
pub fn panels() -> impl Iterator<Item = &'static Panel> {
    rows().iter().flat_map(|row| row.panels)
}

/// An expression with the variables of Grafana filled in.
pub fn filled(expression: &str, rate: &str) -> String {
    let filled = expression.replace("$__rate_interval", rate);
    ["$scheme", "$stage"].iter().fold(filled, |text, variable| text.replace(variable, ".*"))
}

/// Where something is in Grafana's grid of 24 columns.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The column it begins in.
    pub x: u64,
    /// The line it begins in.
    pub y: u64,
    /// Its width.
    pub width: u64,
    /// Its height.
    pub height: u64,
}

/// A title of a row, or a panel.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The title of a row.
    Title(&'static str),
    /// A panel.
    Panel(&'static Panel),
}

/// Everything on the dashboard, with its place.
pub fn layout() -> Vec<(Part, Place)> {
    let mut parts = Vec::new();
    let mut y = 0;
    for row in rows() {
        parts.push((Part::Title(row.title), Place { x: 0, y, width: COLUMNS, height: 1 }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for panel in row.panels {
            let (width, height) = panel.look.size();
            if x + width > COLUMNS {
                (x, y, tallest) = (0, y + tallest, 0);
            }
            parts.push((Part::Panel(panel), Place { x, y, width, height }));
            (x, tallest) = (x + width, tallest.max(height));
        }
        y += tallest;
    }
    parts
}

/// The dashboard as Grafana reads it.
pub fn json() -> Value {
    let panels: Vec<Value> = layout()
        .iter()
        .zip(1_u64..)
        .map(|((part, place), id)| {
            let place = json!({ "x": place.x, "y": place.y, "w": place.width, "h": place.height });
            match part {
                Part::Title(title) => json!({
                    "id": id, "type": "row", "title": title, "collapsed": false, "panels": [], "gridPos": place,
                }),
                Part::Panel(panel) => panel_json(panel, id, &place),
            }
        })
        .collect();
    json!({
        "uid": "kingpost",
        "title": "Kingpost",
        "description": "Purchase stock-ins from WDT through RabbitMQ into Kingdee. Written from tests/src/monitoring/dashboard.",
        "tags": ["kingpost"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "timezone": "browser",
        "annotations": { "list": [alerts_on_the_time_line()] },
        "links": [{
            "title": "Runbooks", "type": "link", "icon": "doc", "targetBlank": true, "url": format!("{RUNBOOKS}README.md"),
        }],
        "templating": { "list": variables() },
        "panels": panels,
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn alerts_on_the_time_line() -> Value {
    json!({
        "name": "Pages", "enable": true, "iconColor": "red", "datasource": source(),
        "expr": "ALERTS{alertname=~\"Kingpost.+\", alertstate=\"firing\", severity=\"page\"}",
        "titleFormat": "{{alertname}}", "textFormat": "{{scheme}} {{stage}}", "step": "30s",
    })
}

fn variables() -> Value {
    let label = |name: &str, title: &str| {
        let query = format!("label_values(kingpost_verdicts_total, {name})");
        json!({
            "name": name, "label": title, "type": "query", "datasource": source(), "refresh": 2, "sort": 1,
            "query": { "query": query, "refId": "variable" }, "definition": query,
            "includeAll": true, "multi": true, "allValue": ".*", "current": { "text": ["All"], "value": ["$__all"] },
        })
    };
    json!([
        { "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {} },
        label("scheme", "Scheme"),
        label("stage", "Stage"),
    ])
}

fn panel_json(panel: &Panel, id: u64, place: &Value) -> Value {
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip('A'..)
        .map(|((expression, legend), letter)| {
            json!({
                "refId": letter.to_string(), "datasource": source(), "expr": expression, "legendFormat": legend,
                "instant": panel.look.is_small(), "range": !panel.look.is_small(),
            })
        })
        .collect();
    let links: Vec<Value> = panel
        .alerts
        .iter()
        .map(|alert| json!({ "title": alert, "url": format!("{RUNBOOKS}{alert}.md"), "targetBlank": true }))
        .collect();
    json!({
        "id": id,
        "type": if panel.look.is_small() { "stat" } else { "timeseries" },
        "title": panel.title,
        "description": panel.about,
        "datasource": source(),
        "gridPos": place,
        "links": links,
        "fieldConfig": { "defaults": defaults(panel), "overrides": [] },
        "options": options(panel.look),
        "targets": targets,
    })
}

fn defaults(panel: &Panel) -> Value {
    let steps = match panel.look {
        Look::Number(Some(limit)) => {
            json!([{ "color": "green", "value": null }, { "color": "red", "value": f64::from(limit) / 1_000.0 }])
        }
        Look::Flag => json!([{ "color": "red", "value": null }, { "color": "green", "value": 1 }]),
        Look::Number(None) | Look::Lines | Look::Stack => json!([{ "color": "green", "value": null }]),
    };
    let stacked = panel.look == Look::Stack;
    json!({
        "unit": panel.unit,
        "min": if panel.look.is_small() { Value::Null } else { json!(0) },
        "color": { "mode": if panel.look.is_small() { "thresholds" } else { "palette-classic" } },
        "thresholds": { "mode": "absolute", "steps": steps },
        "custom": if panel.look.is_small() { json!({}) } else {
            json!({
                "lineWidth": 1, "fillOpacity": if stacked { 30 } else { 5 }, "showPoints": "never", "spanNulls": false,
                "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
            })
        },
    })
}

fn options(look: Look) -> Value {
    if look.is_small() {
        json!({
            "colorMode": "value", "graphMode": "none", "textMode": "auto", "justifyMode": "auto",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        })
    } else {
        json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        })
    }
}
