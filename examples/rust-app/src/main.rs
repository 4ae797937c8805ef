//! Answers every request with a greeting in JSON.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let server = tiny_http::Server::http(format!("127.0.0.1:{port}"))?;
    for request in server.incoming_requests() {
        let greeting = serde_json::json!({ "hello": "rust", "path": request.url() });
        request.respond(tiny_http::Response::from_string(greeting.to_string()))?;
    }
    Ok(())
}
