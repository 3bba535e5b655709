//! Why the server does not do what it was asked for: a word for programs, a sentence for people.

use serde::Serialize;
use utoipa::ToSchema;

use super::store::is_disk_full;
use crate::error::{is_held_back, is_out_of_memory, is_refusal};

/// What kind of problem it is; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is no JSON, or of another shape.
    Malformed,
    /// No token, or a wrong one.
    Unauthorized,
    /// Another site's page asks.
    ForeignOrigin,
    /// The `Host` is not one of this server's names.
    UnknownHost,
    /// There is no such job, picture, model or address.
    NotFound,
    /// The address does not take this method.
    MethodNotAllowed,
    /// The job's state does not allow it.
    Conflict,
    /// Body, prompt or picture is larger than the limit.
    TooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The client took too long to send its request.
    RequestTimeout,
    /// A value that the model or the server does not take.
    Refused,
    /// The prompt policy blocks it, or the safety checker held its picture back.
    Policy,
    /// The queue, or this client's part of it, is full.
    QueueFull,
    /// So much is being sent by others that there is no memory for this request.
    Busy,
    /// The server is about to end, and takes no new jobs.
    Draining,
    /// There is no room for another picture.
    DiskFull,
    /// The job was not done within its time.
    Deadline,
    /// The server ended before the job did.
    Interrupted,
    /// The device has no memory left.
    OutOfMemory,
    /// Kiln's or the device's fault.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::ForeignOrigin,
        Self::UnknownHost,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RequestTimeout,
        Self::Refused,
        Self::Policy,
        Self::QueueFull,
        Self::Busy,
        Self::Draining,
        Self::DiskFull,
        Self::Deadline,
        Self::Interrupted,
        Self::OutOfMemory,
        Self::Internal,
    ];

    /// The code that is written as `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The code as it is written in JSON and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::ForeignOrigin => "foreign_origin",
            Self::UnknownHost => "unknown_host",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RequestTimeout => "request_timeout",
            Self::Refused => "refused",
            Self::Policy => "policy",
            Self::QueueFull => "queue_full",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::DiskFull => "disk_full",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
            Self::OutOfMemory => "out_of_memory",
            Self::Internal => "internal",
        }
    }

    /// The status of a response that carries it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthorized => 401,
            Self::ForeignOrigin => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::UnknownHost => 421,
            Self::Refused | Self::Policy => 422,
            Self::QueueFull => 429,
            Self::Internal | Self::OutOfMemory => 500,
            Self::Busy | Self::Draining | Self::Interrupted => 503,
            Self::Deadline => 504,
            Self::DiskFull => 507,
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When it is worth asking again, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem that asking again later does not solve.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None }
    }
}

impl Problem {
    /// There is no room for another picture.
    #[must_use]
    pub fn disk_full() -> Self {
        let said = "there is no room for another picture; delete jobs, or make room where the server keeps its state";
        Self::new(Code::DiskFull, said)
    }
}

impl From<anyhow::Error> for Problem {
    /// The caller's fault is told as it is; of ours the reason is told too, since whoever asks may look after the device.
    fn from(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        if is_disk_full(&error) {
            return Self::disk_full();
        }
        let code = if is_held_back(&error) {
            Code::Policy
        } else if is_refusal(&error) {
            Code::Refused
        } else if is_out_of_memory(&error) {
            Code::OutOfMemory
        } else {
            Code::Internal
        };
        Self::new(code, format!("{error:#}"))
    }
}
