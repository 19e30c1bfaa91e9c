//! Data folders that earlier programs wrote. They are kept in `tests/golden`, made once and never anew, spare files and the
//! zeros at the ends of journal files left out.

use std::path::Path;

use crate::support::Node;

fn golden(format: u32) -> Node {
    let folder = format!("tests/golden/format-{format}");
    Node::start_on_copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

#[test]
fn messages_of_format_2_are_there_with_their_properties() {
    let node = golden(2);
    let mut client = node.client();
    assert_eq!(client.counts("golden"), (5, 0));
    for number in 0..5 {
        let message = client.get("golden");
        assert_eq!(message.text(), format!("message {number}"));
        let id = message.properties.message_id.unwrap();
        assert_eq!(id.as_str().unwrap(), format!("id{number}"));
    }
    client.expect_contents("other", &["in the other"]);
}
