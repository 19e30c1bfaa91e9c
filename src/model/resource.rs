//! How refusals and logs name a thing: `queue 'q' in vhost '/'`.

/// A resource as RabbitMQ prints it (`rabbit_misc:rs/1`); `kind` is `queue` or `exchange`.
pub fn resource(kind: &str, name: &str, vhost: &str) -> String {
    format!("{kind} '{name}' in vhost '{vhost}'")
}
