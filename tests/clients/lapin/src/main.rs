//! lapin: confirms as futures, all field-table types, and its automatic recovery.

#[path = "../../checks.rs"]
mod checks;
mod life;
mod messages;
mod support;
mod topology;

use checks::Checks;
use life::*;
use messages::*;
use topology::*;

#[tokio::main]
async fn main() {
    let mut checks = Checks::default();
    checks
        .run("wrong_password_is_access_refused", wrong_password())
        .await;
    checks.run("missing_vhost_is_530", missing_vhost()).await;
    checks
        .run(
            "consumes_acknowledges_and_rejects",
            consumes_acknowledges_and_rejects(),
        )
        .await;
    checks
        .run(
            "confirms_come_for_every_message",
            confirms_come_for_every_message(),
        )
        .await;
    checks
        .run(
            "returns_come_before_their_ack_and_overflow_is_nacked",
            returns_come_before_their_ack_and_overflow_is_nacked(),
        )
        .await;
    checks
        .run(
            "transaction_commits_and_rolls_back",
            transaction_commits_and_rolls_back(),
        )
        .await;
    checks
        .run("rpc_by_direct_reply_to", rpc_by_direct_reply_to())
        .await;
    checks
        .run("rpc_by_a_reply_queue", rpc_by_a_reply_queue())
        .await;
    checks
        .run("exchanges_of_all_kinds", exchanges_of_all_kinds())
        .await;
    checks
        .run(
            "errors_have_their_codes_and_texts",
            errors_have_their_codes_and_texts(),
        )
        .await;
    checks.run("immediate_is_540", immediate_is_540()).await;
    checks
        .run(
            "consumer_ends_when_its_queue_is_deleted",
            consumer_ends_when_its_queue_is_deleted(),
        )
        .await;
    checks
        .run("dead_letters_and_priorities", dead_letters_and_priorities())
        .await;
    checks
        .run("all_table_types_come_back", all_table_types_come_back())
        .await;
    checks
        .run("large_body_in_many_frames", large_body_in_many_frames())
        .await;
    checks
        .run(
            "idle_connection_lives_on_heartbeats",
            idle_connection_lives_on_heartbeats(),
        )
        .await;
    checks
        .run(
            "durable_definitions_survive_a_kill",
            durable_definitions_survive_a_kill(),
        )
        .await;
    checks
        .run("own_recovery_after_a_kill", own_recovery_after_a_kill())
        .await;
    checks.finish()
}
