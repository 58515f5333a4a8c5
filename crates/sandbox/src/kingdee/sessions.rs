//! Who may call: signed headers, or a session that a login opened.

use super::answer::Problem;
use super::call::Call;
use super::{Outcome, sign};
use crate::cli::Options;
use crate::http::{Reply, Request};
use crate::json::Json;

const LOST: &str = "会话信息已丢失，请重新登录";

/// The open sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Vec<String>,
    last: u64,
}

impl Sessions {
    /// Lets a request pass that is signed, or that names an open session.
    pub(crate) fn admit(&self, options: &Options, request: &Request) -> Result<(), Problem> {
        if request.header("X-Kd-Signature").is_some() || request.header("X-Kd-Appkey").is_some() {
            return sign::check_headers(options, request).map_err(|reason| explain(options, &reason));
        }
        match session_of(request) {
            Some(session) if self.open.iter().any(|open| open == session) => Ok(()),
            _ => Err(Problem::whole(1, LOST)),
        }
    }

    /// Ends every session; gives back how many there were.
    pub(crate) fn end_all(&mut self) -> usize {
        std::mem::take(&mut self.open).len()
    }

    /// The answer to a lost session.
    pub(crate) fn lost() -> Problem {
        Problem::whole(1, LOST)
    }

    /// Runs a call to `AuthService`.
    pub(crate) fn authenticate(&mut self, options: &Options, request: &Request, call: &Call) -> Outcome {
        let operation = call.operation.to_ascii_lowercase();
        let (operation, kick) = match operation.strip_suffix('2') {
            Some(plain) => (plain, call.parameters.last().and_then(Json::flag).unwrap_or(false)),
            None => (operation.as_str(), options.kick_sessions),
        };
        let given = |at: usize, name: &str| {
            let value = call.parameters.get(at).and_then(Json::scalar);
            value.or_else(|| call.data.text_of(name)).unwrap_or_default()
        };
        let failure = match operation {
            "logout" => {
                self.open.retain(|open| Some(open.as_str()) != session_of(request));
                return Outcome::ok(Reply::json("true"));
            }
            "loginbysign" | "loginbyappsecret" => check_login(options, operation, given),
            _ => Some((-1, "此登录方式已停用，请使用 LoginBySign".to_owned())),
        };
        match failure {
            Some((kind, message)) => {
                let body = [
                    ("Message", message.as_str().into()),
                    ("MessageCode", "CheckUser".into()),
                    ("LoginResultType", Json::from(kind)),
                    ("Context", Json::Null),
                    ("KDSVCSessionId", Json::Null),
                    ("IsSuccessByAPI", false.into()),
                ];
                Outcome { reply: Reply::json(Json::object(body)), note: format!("login {kind} {message}") }
            }
            None => Outcome::ok(self.open(options, kick)),
        }
    }

    fn open(&mut self, options: &Options, kick: bool) -> Reply {
        if kick {
            self.end_all();
        }
        self.last += 1;
        let session = format!("5e1f6c0e-0000-4000-8000-{:012}", self.last);
        self.open.push(session.clone());
        let context = Json::object([
            ("UserToken", format!("example-token-{}", self.last).into()),
            ("SessionId", format!("example{}", self.last).into()),
            ("DBid", options.kingdee_acct_id.as_str().into()),
            ("UserName", options.kingdee_username.as_str().into()),
        ]);
        let mut reply = Reply::json(Json::object([
            ("Message", Json::Null),
            ("MessageCode", "CheckPasswordPolicy".into()),
            ("LoginResultType", Json::from(1_i64)),
            ("Context", context),
            ("KDSVCSessionId", session.as_str().into()),
            ("FormId", Json::Null),
            ("IsSuccessByAPI", true.into()),
        ]));
        let cookies = [
            format!("kdservice-sessionid={session}; path=/"),
            format!("ASP.NET_SessionId=example{}; path=/; HttpOnly", self.last),
        ];
        reply.headers.extend(cookies.map(|cookie| ("set-cookie".to_owned(), cookie)));
        reply
    }
}

fn session_of(request: &Request) -> Option<&str> {
    let cookie = || {
        let mut cookies = request.header("cookie")?.split(';');
        cookies.find_map(|cookie| cookie.trim().strip_prefix("kdservice-sessionid="))
    };
    request.header("kdservice-sessionid").or_else(|| request.header("SID")).or_else(cookie)
}

/// The result type and text of a login that fails.
fn check_login(
    options: &Options,
    operation: &str,
    given: impl Fn(usize, &str) -> String,
) -> Option<(i64, String)> {
    let (account, user, app_id) = (given(0, "acctID"), given(1, "username"), given(2, "appId"));
    if account != options.kingdee_acct_id {
        return Some((-1, "当前尝试登录的数据中心无法获取到".to_owned()));
    }
    if user != options.kingdee_username {
        return Some((-1, format!("第三方应用：{app_id} 不允许用户{user} 登录，请联系系统管理员添加！")));
    }
    let secret = &options.kingdee_app_secret;
    let proven = match operation {
        "loginbysign" => {
            let timestamp = given(3, "timestamp");
            timestamp.parse::<u64>().is_ok()
                && given(4, "sign") == sign::login(&account, &user, &app_id, secret, &timestamp)
        }
        _ => given(3, "appSecret") == *secret,
    };
    let known = app_id == options.kingdee_app_id && proven;
    (!known).then(|| (0, "用户名或密码错误".to_owned()))
}

/// What the real server says when a signed request does not pass; the reason itself goes to the ledger.
fn explain(options: &Options, reason: &str) -> Problem {
    let text = match reason {
        _ if reason.contains("account set") => "当前尝试登录的数据中心无法获取到".to_owned(),
        _ if reason.contains("user in") => {
            format!("第三方应用：{} 不允许用户登录，请联系系统管理员添加！", options.kingdee_app_id)
        }
        _ => "Fail to verify thirty passport".to_owned(),
    };
    Problem::whole(1, format!("{text} ({reason})"))
}
