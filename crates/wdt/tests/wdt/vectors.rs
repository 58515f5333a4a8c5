use kingpost_wdt::{SignMethod, direct_sign, top_sign, wdt_sign};
use md5::{Digest, Md5};
use secrecy::SecretString;
use serde_json::{Map, Value};

const VECTORS: &str = include_str!("../data/vectors.json");

fn vectors(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    all.into_iter().filter(|vector| vector["kind"] == kind).collect()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{} has no {name}", vector["id"]))
}

fn secret(vector: &Value) -> SecretString {
    text(vector, "secret").into()
}

/// Fields as they are sent: text as it is, anything else as JSON text.
fn fields(map: &Value) -> Vec<(String, String)> {
    let map: &Map<String, Value> = map.as_object().unwrap();
    map.iter()
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text))
}

#[test]
fn every_vector_is_of_a_kind_that_is_checked() {
    let all: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let counts = ["wdt_sign", "top_sign", "direct_sign"].map(|kind| vectors(kind).len());
    assert_eq!(counts, [9, 7, 5]);
    assert_eq!(all.len(), counts.iter().sum::<usize>());
}

#[test]
fn wdt_sign_gives_the_published_and_the_derived_signatures() {
    for vector in vectors("wdt_sign") {
        let fields = fields(&vector["fields"]);
        let sign = wdt_sign(&secret(&vector), text(&vector, "method"), &borrowed(&fields));
        assert_eq!(sign, text(&vector, "sign"), "{}", vector["id"]);
        assert_eq!(sign, md5(text(&vector, "preimage")), "{}", vector["id"]);
        if let Some(published) = vector["published"].as_str() {
            assert_eq!(sign, published, "{}", vector["id"]);
        }
    }
}

#[test]
fn wdt_sign_does_not_depend_on_the_order_of_the_fields() {
    for vector in vectors("wdt_sign") {
        let mut fields = fields(&vector["fields"]);
        fields.reverse();
        let sign = wdt_sign(&secret(&vector), text(&vector, "method"), &borrowed(&fields));
        assert_eq!(sign, text(&vector, "sign"), "{}", vector["id"]);
    }
}

#[test]
fn top_sign_gives_the_published_and_the_derived_signatures() {
    for vector in vectors("top_sign") {
        let method: SignMethod = text(&vector, "sign_method").parse().unwrap();
        let mut params = fields(&vector["params"]);
        let sign = top_sign(&secret(&vector), method, &borrowed(&params));
        assert_eq!(sign, text(&vector, "sign"), "{}", vector["id"]);
        if let Some(published) = vector["published"].as_str() {
            assert_eq!(sign, published, "{}", vector["id"]);
        }
        params.reverse();
        params.extend([("sign".to_owned(), sign.clone()), ("session".to_owned(), String::new())]);
        params.retain(|(name, value)| {
            name != "session" || !value.is_empty() || vector["params"]["session"].is_null()
        });
        assert_eq!(top_sign(&secret(&vector), method, &borrowed(&params)), sign, "{}", vector["id"]);
        if method == SignMethod::Md5 {
            let secret = text(&vector, "secret");
            let preimage = format!("{secret}{}{secret}", text(&vector, "preimage_without_secret"));
            assert_eq!(sign, md5(&preimage).to_uppercase(), "{}", vector["id"]);
        }
    }
}

#[test]
fn direct_sign_gives_the_published_and_the_derived_signatures() {
    for vector in vectors("direct_sign") {
        let mut query = fields(&vector["query"]);
        let body = text(&vector, "body");
        let sign = direct_sign(&secret(&vector), &borrowed(&query), body);
        assert_eq!(sign, text(&vector, "sign"), "{}", vector["id"]);
        assert_eq!(sign, md5(text(&vector, "preimage")), "{}", vector["id"]);
        if let Some(published) = vector["published"].as_str() {
            assert_eq!(sign, published, "{}", vector["id"]);
        }
        query.insert(0, ("sign".to_owned(), sign.clone()));
        query.reverse();
        assert_eq!(direct_sign(&secret(&vector), &borrowed(&query), body), sign, "{}", vector["id"]);
    }
}
