//! Opens the user's store, and reads the user's settings.

use std::sync::OnceLock;

use super::access::Access;
use super::say;

/// Opens the user's store.
pub(super) fn open() -> Result<kiln::Engine, kiln::Error> {
    kiln::open(say)
}

/// Opens the user's store, for steps with this isolation, with registries spoken to as the command
/// line says.
pub(super) fn open_with(
    choice: Option<kiln::IsolationChoice>,
    access: Access,
) -> Result<kiln::Engine, kiln::Error> {
    let builder = kiln::Kiln::builder()
        .user_store()?
        .config(config()?.clone());
    let builder = builder
        .isolation(choice.map_or_else(kiln::isolation_of_environment, Ok)?)
        .credentials(access.credentials)
        .logins(access.logins)
        .certificates(access.certificates)
        .insecure(access.insecure)
        .notice(say);
    Ok(builder.open()?.engine().clone())
}

/// The user's settings (`kiln.conf`), read once.
pub(super) fn config() -> Result<&'static kiln::Config, kiln::Error> {
    static CONFIG: OnceLock<kiln::Config> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = kiln::Config::load()?;
    Ok(CONFIG.get_or_init(|| config))
}
