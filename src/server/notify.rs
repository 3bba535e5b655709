//! Tells a service manager how the server is, as `sd_notify(3)` has it: ready, alive, about to end.

/// Sends `state`, such as `READY=1`, to the socket that `NOTIFY_SOCKET` names; without one nothing is sent.
pub fn notify(state: &str) {
    #[cfg(target_os = "linux")]
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = linux::send(&address, state)
    {
        log::warn!("the service manager could not be told {state}: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = state;
}

/// How often the service manager wants to hear that the server is alive; half of the time after which it gives up.
#[must_use]
pub fn watchdog_interval() -> Option<std::time::Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|micros| *micros > 0).map(|micros| std::time::Duration::from_micros(micros / 2))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::io;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    pub(super) fn send(address: &OsStr, state: &str) -> io::Result<()> {
        // An `@` stands for the zero byte that begins the name of an abstract socket.
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    }
}
