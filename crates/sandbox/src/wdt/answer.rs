//! WDT's and TOP's own answer shapes and error texts.

use super::Transport;
use crate::http::Reply;
use crate::json::Json;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// By the Qimen gateway: TOP's code and text, and a sub code with its text.
    Gateway { code: i64, message: &'static str, sub_code: Option<String>, sub_message: Option<String> },
    /// By WDT under `status`.
    Status { status: i64, message: String },
    /// By WDT under `code`; the documented shape for missing times.
    Code { code: i64, message: String },
}

impl Refusal {
    pub(crate) fn gateway(code: i64, message: &'static str) -> Refusal {
        Refusal::Gateway { code, message, sub_code: None, sub_message: None }
    }

    pub(crate) fn argument(code: i64, message: &'static str, name: &str) -> Refusal {
        let reason = if code == 40 { "isv.missing-parameter" } else { "isv.invalid-parameter" };
        Refusal::Gateway {
            code,
            message,
            sub_code: Some(format!("{reason}:{name}")),
            sub_message: Some(format!("参数 {name} 缺失或无效")),
        }
    }

    pub(crate) fn status(status: i64, message: impl Into<String>) -> Refusal {
        Refusal::Status { status, message: message.into() }
    }

    /// The per-minute limit.
    pub(crate) fn rate_limit() -> Refusal {
        Refusal::status(100, "超过每分钟最大调用频率限制，请稍后重试")
    }

    /// The limit of calls at the same time.
    pub(crate) fn concurrency_limit() -> Refusal {
        Refusal::status(100, "超过每分钟最大并发次数限制，请稍后重试")
    }

    /// TOP's ban for that many seconds.
    pub(crate) fn ban(seconds: u64) -> Refusal {
        Refusal::Gateway {
            code: 7,
            message: "App Call Limited",
            sub_code: Some("accesscontrol.limited-by-api-access-count".to_owned()),
            sub_message: Some(format!("This ban will last for {seconds} more seconds")),
        }
    }

    /// A fault of the platform's.
    pub(crate) fn isp_error() -> Refusal {
        Refusal::Gateway {
            code: 15,
            message: "Remote service error",
            sub_code: Some("isp.remote-connection-timeout".to_owned()),
            sub_message: Some("远程连接超时".to_owned()),
        }
    }

    /// A few words for the ledger.
    pub(crate) fn note(&self) -> String {
        match self {
            Refusal::Gateway { code, message, sub_code, .. } => {
                format!("gateway {code} {message} {}", sub_code.as_deref().unwrap_or_default())
            }
            Refusal::Status { status, message } => format!("status {status} {message}"),
            Refusal::Code { code, message } => format!("code {code} {message}"),
        }
    }

    /// The answer in the transport's shape.
    pub(crate) fn reply(&self, transport: Transport, request: u64) -> Reply {
        let mut body = match self {
            Refusal::Gateway { code, message, sub_code, sub_message } => {
                let mut pairs = vec![
                    ("flag", Json::from("failure")),
                    ("code", (*code).into()),
                    ("message", (*message).into()),
                ];
                pairs.extend(sub_code.as_deref().map(|text| ("sub_code", text.into())));
                pairs.extend(sub_message.as_deref().map(|text| ("sub_message", text.into())));
                Json::object(pairs)
            }
            Refusal::Status { status, message } => {
                Json::object([("status", (*status).into()), ("message", message.as_str().into())])
            }
            Refusal::Code { code, message } => {
                Json::object([("code", (*code).into()), ("message", message.as_str().into())])
            }
        };
        match transport {
            Transport::Direct => Reply::json(body),
            Transport::Qimen => {
                body.set("request_id", request_id(request));
                Reply::json(Json::object([("response", body)]))
            }
        }
    }

    /// The same in TOP's older shape, under `error_response`.
    pub(crate) fn classic_reply(&self, request: u64) -> Reply {
        let Refusal::Gateway { code, message, sub_code, sub_message } = self else {
            return self.reply(Transport::Qimen, request);
        };
        let body = Json::object([
            ("code", (*code).into()),
            ("msg", (*message).into()),
            ("sub_code", sub_code.clone().into()),
            ("sub_msg", sub_message.clone().into()),
            ("request_id", request_id(request)),
        ]);
        Reply::json(Json::object([("error_response", body)]))
    }
}

/// A page of orders in the transport's shape. Qimen's status is a number on even requests and text on odd.
pub(crate) fn page(transport: Transport, request: u64, total: Option<i64>, orders: Vec<Json>) -> Reply {
    let mut data: Vec<(&str, Json)> = total.map(|total| ("total_count", total.into())).into_iter().collect();
    data.push(("order", Json::Array(orders)));
    let data = Json::object(data);
    match transport {
        Transport::Direct => Reply::json(Json::object([("status", Json::from(0_i64)), ("data", data)])),
        Transport::Qimen => {
            let status = if request.is_multiple_of(2) { Json::from(0_i64) } else { "0".into() };
            let body = [("status", status), ("data", data), ("request_id", request_id(request))];
            Reply::json(Json::object([("response", Json::object(body))]))
        }
    }
}

fn request_id(request: u64) -> Json {
    format!("16example{request:06}").into()
}
