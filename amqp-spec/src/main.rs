//! Rewrites the broker's `src/protocol/generated.rs` from `amqp-0-9-1.toml`.

use std::io;

fn main() -> io::Result<()> {
    let path = amqp_spec::generated_path();
    std::fs::write(&path, amqp_spec::generated_source()?)?;
    println!("wrote {}", path.display());
    Ok(())
}
