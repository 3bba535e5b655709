//! The interface as its document tells it: each of its addresses is there, takes the methods that it names, and no others.

use serde_json::Value;

use crate::client::Server;
use crate::sun;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[test]
fn the_document_and_the_routes_are_the_same() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").expect(200).json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let asked = path.replace("{id}", "nothing").replace("{n}", "0");
        for method in METHODS {
            let answer = server.ask(&method.to_uppercase(), &asked, &[], None);
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!told.contains("there is nothing at this address"), "{method} {path}: {told}");
            match item.get(method) {
                None => assert_eq!(answer.status, 405, "{method} {path} is not in the document: {told}"),
                Some(operation) => {
                    let declared = operation["responses"].as_object().unwrap();
                    assert!(declared.contains_key(&answer.status.to_string()), "{method} {path}: {} {told}", answer.status);
                    operations += 1;
                }
            }
        }
    }
    assert_eq!(operations, 33);
}

#[test]
fn what_is_answered_is_what_the_document_says() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").expect(200).json();
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    let asked = [
        ("get", "/jobs".to_owned(), "/jobs"),
        ("get", format!("/jobs/{id}"), "/jobs/{id}"),
        ("get", "/bundles".to_owned(), "/bundles"),
        ("get", "/lineage".to_owned(), "/lineage"),
        ("get", "/status".to_owned(), "/status"),
        ("get", "/healthz".to_owned(), "/healthz"),
        ("get", "/readyz".to_owned(), "/readyz"),
        ("get", "/v1/models".to_owned(), "/v1/models"),
        ("get", "/v1/models/sticker".to_owned(), "/v1/models/{id}"),
        ("delete", format!("/jobs/{id}"), "/jobs/{id}"),
    ];
    let mut fields = 0;
    for (method, path, template) in &asked {
        let answer = server.ask(&method.to_uppercase(), path, &[], None).expect(200).json();
        let schema = &document["paths"][template][method]["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "{method} {template}");
        fields += compare(&document, schema, &answer, template);
    }
    assert!(fields > 100, "{fields} fields were looked at");
}

/// Every field of an answer is in its schema, and every required one in the answer; returns how many were looked at.
fn compare(document: &Value, schema: &Value, answer: &Value, place: &str) -> usize {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        let found = &document["components"]["schemas"][name];
        assert!(!found.is_null(), "{place}: the schema {name} is missing");
        return compare(document, found, answer, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let other = choices.iter().find(|choice| choice["type"] != "null");
        return if answer.is_null() { 0 } else { compare(document, other.unwrap(), answer, place) };
    }
    match answer {
        Value::Array(values) => values.iter().map(|value| compare(document, &schema["items"], value, place)).sum(),
        Value::Object(values) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(values.contains_key(required.as_str().unwrap()), "{place}: has no {required}");
            }
            let Some(properties) = schema["properties"].as_object() else { return 0 };
            let of = |(name, value): (&String, &Value)| {
                let property = properties.get(name).unwrap_or_else(|| panic!("{place}: {name} is not in the schema"));
                1 + compare(document, property, value, &format!("{place}.{name}"))
            };
            values.iter().map(of).sum()
        }
        _ => 0,
    }
}
