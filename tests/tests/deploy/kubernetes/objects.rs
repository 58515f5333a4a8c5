//! Objects of a build, and what several tests read of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What kustomize made of a directory.
pub(super) struct Build {
    pub(super) name: String,
    pub(super) objects: Vec<Value>,
}

static NOTHING: Value = Value::Null;

/// A part of an object, or null.
pub(super) fn at<'a>(object: &'a Value, pointer: &str) -> &'a Value {
    object.pointer(pointer).unwrap_or(&NOTHING)
}

/// A text of an object, or nothing.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).as_str().unwrap_or_default()
}

/// The elements of a list, or none.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Kind and name, for messages.
pub(super) fn label(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// The containers of a pod, those of its start first.
pub(super) fn containers(pod: &Value) -> Vec<&Value> {
    list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers")).collect()
}

/// The template of an object's pods.
pub(super) fn template(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => object.pointer("/spec/template"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        "Pod" => Some(object),
        _ => None,
    }
}

impl Build {
    pub(super) fn parse(name: &str, yaml: &str) -> Result<Self> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).with_context(|| name.to_owned())?;
        Ok(Build { name: name.to_owned(), objects })
    }

    pub(super) fn of(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| text(object, "/kind") == kind).collect()
    }

    pub(super) fn object(&self, kind: &str, name: &str) -> Result<&Value> {
        let found = self.of(kind).into_iter().find(|object| text(object, "/metadata/name") == name);
        found.with_context(|| format!("{} has no {kind} {name}", self.name))
    }

    /// Every object that makes pods, with their template.
    pub(super) fn pods(&self) -> Vec<(&Value, &Value)> {
        self.objects.iter().filter_map(|object| Some((object, template(object)?))).collect()
    }

    pub(super) fn has_no_duplicates(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for object in &self.objects {
            ensure!(seen.insert(label(object)), "{} has {} twice", self.name, label(object));
        }
        Ok(())
    }

    /// What is in a ConfigMap or Secret that the build itself makes; nothing for one that is only referred to.
    pub(super) fn data(&self, kind: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>> {
        let Ok(object) = self.object(kind, name) else { return Ok(None) };
        let mut data = BTreeMap::new();
        for (key, value) in at(object, "/data").as_object().into_iter().flatten() {
            let value = value.as_str().with_context(|| format!("{name}: {key} is no text"))?;
            let bytes = if kind == "Secret" { decoded(value)? } else { value.as_bytes().to_vec() };
            data.insert(key.clone(), bytes);
        }
        Ok(Some(data))
    }

    /// The variables of a container, in the order in which the later one counts.
    pub(super) fn environment(&self, container: &Value) -> Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        for source in list(container, "/envFrom") {
            let name = text(source, "/configMapRef/name");
            ensure!(!name.is_empty(), "{}: variables come from ConfigMaps alone: {source}", self.name);
            let data = self
                .data("ConfigMap", name)?
                .with_context(|| format!("{} has no ConfigMap {name}", self.name))?;
            for (key, value) in data {
                environment.insert(key, String::from_utf8(value)?);
            }
        }
        for variable in list(container, "/env") {
            let value =
                at(variable, "/value").as_str().with_context(|| format!("{variable} has no plain value"))?;
            environment.insert(text(variable, "/name").to_owned(), value.to_owned());
        }
        Ok(environment)
    }

    /// The files that a mounted volume shows, by their path below the mount; nothing for those of objects that the build
    /// only refers to.
    pub(super) fn files(&self, pod: &Value, volume: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>> {
        let found = list(pod, "/spec/volumes").iter().find(|other| text(other, "/name") == volume);
        let volume = found.with_context(|| format!("{}: no volume {volume}", self.name))?;
        let sources: Vec<&Value> = match volume.pointer("/projected/sources").and_then(Value::as_array) {
            Some(sources) => sources.iter().collect(),
            None => vec![volume],
        };
        let mut files = BTreeMap::new();
        for source in sources {
            let (kind, name, items) = if let Some(map) = source.get("configMap") {
                ("ConfigMap", text(map, "/name"), list(map, "/items"))
            } else if let Some(secret) = source.get("secret") {
                let name = [text(secret, "/secretName"), text(secret, "/name")].concat();
                let Some(data) = self.data("Secret", &name)? else { return Ok(None) };
                lay(&mut files, data, list(secret, "/items"))?;
                continue;
            } else if source.get("emptyDir").or(source.get("persistentVolumeClaim")).is_some() {
                continue;
            } else {
                bail!("{}: a volume of another kind: {source}", self.name);
            };
            let Some(data) = self.data(kind, name)? else { return Ok(None) };
            lay(&mut files, data, items)?;
        }
        Ok(Some(files))
    }
}

/// Without items every key is a file at the top, with items only those that they name.
fn lay(
    files: &mut BTreeMap<String, Vec<u8>>,
    data: BTreeMap<String, Vec<u8>>,
    items: &[Value],
) -> Result<()> {
    if items.is_empty() {
        files.extend(data);
        return Ok(());
    }
    for item in items {
        let (key, path) = (text(item, "/key"), text(item, "/path"));
        let content = data.get(key).with_context(|| format!("no key {key}"))?;
        files.insert(path.to_owned(), content.clone());
    }
    Ok(())
}

/// Base64 as Secrets carry it.
fn decoded(text: &str) -> Result<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| !letter.is_ascii_whitespace() && *letter != b'=') {
        let digit = DIGITS.iter().position(|other| *other == letter).context("no base64")?;
        bits = (bits << 6) | u32::try_from(digit)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff)?);
        }
    }
    Ok(bytes)
}
