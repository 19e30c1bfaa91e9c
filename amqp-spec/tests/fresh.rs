//! The committed `src/protocol/generated.rs` is what the generator writes from the description.

#![allow(clippy::unwrap_used)]

#[test]
fn generated_file_is_fresh() {
    let committed = std::fs::read_to_string(amqp_spec::generated_path()).unwrap();
    assert!(
        committed == amqp_spec::generated_source().unwrap(),
        "src/protocol/generated.rs is stale: run `cargo run -p amqp-spec`"
    );
}
