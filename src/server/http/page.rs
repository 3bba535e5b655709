//! The page, out of the binary.

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};

use crate::server::problem::{Code, Problem};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page's files: name, type, text.
const FILES: [(&str, &str, &str); 20] = [
    ("api.js", SCRIPT, include_str!("../page/api.js")),
    ("app.js", SCRIPT, include_str!("../page/app.js")),
    ("base.css", STYLE, include_str!("../page/base.css")),
    ("form.js", SCRIPT, include_str!("../page/form.js")),
    ("gallery.js", SCRIPT, include_str!("../page/gallery.js")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("index.html", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("kiosk.js", SCRIPT, include_str!("../page/kiosk.js")),
    ("make.css", STYLE, include_str!("../page/make.css")),
    ("make.js", SCRIPT, include_str!("../page/make.js")),
    ("operator.js", SCRIPT, include_str!("../page/operator.js")),
    ("polaroid.css", STYLE, include_str!("../page/polaroid.css")),
    ("polaroid.js", SCRIPT, include_str!("../page/polaroid.js")),
    ("print.js", SCRIPT, include_str!("../page/print.js")),
    ("qr.js", SCRIPT, include_str!("../page/qr.js")),
    ("run.js", SCRIPT, include_str!("../page/run.js")),
    ("text.js", SCRIPT, include_str!("../page/text.js")),
    ("texts.json", "application/json", include_str!("../page/texts.json")),
    ("tree.js", SCRIPT, include_str!("../page/tree.js")),
    ("views.css", STYLE, include_str!("../page/views.css")),
];

/// `GET /`
pub(super) async fn index() -> Result<Response<Body>, Problem> {
    find("index.html")
}

/// `GET /page/{name}`
pub(super) async fn file(Path(name): Path<String>) -> Result<Response<Body>, Problem> {
    find(&name)
}

fn find(name: &str) -> Result<Response<Body>, Problem> {
    let found = FILES.iter().find(|(known, _, _)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| Problem::new(Code::NotFound, "the page has no such file"))?;
    let mut response = Response::new(Body::from(*text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A newer binary brings a newer page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/page");
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let mut served: Vec<&str> = FILES.iter().map(|(name, _, _)| *name).collect();
        served.sort_unstable();
        assert_eq!(served, names);
    }
}
