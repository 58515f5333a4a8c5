//! One WebAPI call: service, operation, form and data, in any of the three encodings.

use crate::http::Request;
use crate::json::Json;

/// A call as it was understood.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) form: String,
    pub(crate) data: Json,
    /// The positional parameters, where the body has them.
    pub(crate) parameters: Vec<Json>,
    /// Why the body can't be read; answered with HTTP 500 as the real one does.
    pub(crate) unreadable: Option<String>,
}

/// Reads a request to a `.common.kdsvc` path; nothing when the path is no service.
pub(crate) fn read(request: &Request) -> Option<Call> {
    let name = request.path().rsplit('/').next()?.strip_suffix(".common.kdsvc")?;
    let (prefix, operation) = name.rsplit_once('.')?;
    let (stub, service) = prefix.rsplit_once('.')?;
    if stub != "Kingdee.BOS.WebApi.ServicesStub" || request.method != "POST" {
        return None;
    }
    let mut call = Call {
        service: service.to_owned(),
        operation: operation.to_owned(),
        form: String::new(),
        data: Json::Null,
        parameters: Vec::new(),
        unreadable: None,
    };
    if let Err(reason) = call.read_body(&request.body) {
        call.unreadable = Some(reason);
    }
    Some(call)
}

impl Call {
    fn read_body(&mut self, body: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(body).map_err(|_| "body is no UTF-8")?;
        let body = Json::parse(text)?;
        if !matches!(body, Json::Object(_)) {
            return Err("Additional text found in JSON string: 请求体不是对象".to_owned());
        }
        let data = match body.get_any_case("parameters") {
            Some(parameters) => {
                self.parameters = parameters.items().to_vec();
                match self.parameters.as_slice() {
                    [form, data, ..] => {
                        self.form = form.scalar().unwrap_or_default();
                        data.clone()
                    }
                    [data] => data.clone(),
                    [] => Json::Null,
                }
            }
            None => {
                self.form = body.text_of("formid").unwrap_or_default();
                match body.get_any_case("data") {
                    Some(data) => data.clone(),
                    None if self.service == "AuthService" => body,
                    None => Json::Null,
                }
            }
        };
        if self.service == "AuthService" {
            self.data = data;
            return Ok(());
        }
        self.data = match data {
            Json::Text(text) => match Json::parse(&text) {
                Ok(data @ Json::Object(_)) => data,
                _ => return Err("data 不是 JSON 对象的文本".to_owned()),
            },
            data => data,
        };
        if self.form.is_empty() {
            self.form = self.data.text_of("FormId").unwrap_or_default();
        }
        Ok(())
    }

    /// The documents of a Save or BatchSave.
    pub(crate) fn models(&self) -> &[Json] {
        match self.data.get_any_case("Model") {
            Some(Json::Array(models)) => models,
            Some(model) => std::slice::from_ref(model),
            None => &[],
        }
    }

    /// The ids of a step's comma text.
    pub(crate) fn ids(&self) -> Vec<String> {
        let text = self.data.text_of("Ids").or_else(|| self.data.text_of("Id")).unwrap_or_default();
        text.split(',').map(str::trim).filter(|id| !id.is_empty() && *id != "0").map(str::to_owned).collect()
    }

    /// The document numbers of a step.
    pub(crate) fn numbers(&self) -> Vec<String> {
        let numbers = match self.data.get_any_case("Numbers") {
            Some(Json::Array(numbers)) => numbers.iter().filter_map(Json::scalar).collect(),
            Some(text) => text.scalar().into_iter().collect(),
            None => Vec::new(),
        };
        let single = self.data.text_of("Number");
        numbers.into_iter().chain(single).filter(|number: &String| !number.is_empty()).collect()
    }

    /// A flag of the data, given as boolean or text.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.data.get_any_case(name).and_then(Json::flag).unwrap_or(default)
    }

    /// The numbers that the call names itself; those behind ids are the store's to say.
    pub(crate) fn named_numbers(&self) -> Vec<String> {
        let mut numbers: Vec<String> =
            self.models().iter().filter_map(|model| model.text_of("FBillNo")).collect();
        numbers.extend(self.numbers());
        let filter = self.data.text_of("FilterString").unwrap_or_default();
        numbers.extend(filter.split('\'').skip(1).step_by(2).map(str::to_owned));
        numbers
    }
}
