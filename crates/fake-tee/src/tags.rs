//! The tags of the repository of compose files, as git lists references: over HTTP
//! (gitprotocol-http, gitprotocol-pack "Reference Discovery"), and `git ls-remote`.

use crate::compose_file::commit;
use crate::hash::label;

/// A tag of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTag {
    /// Its name.
    pub name: String,
    /// The commit, 40 hex digits.
    pub commit: String,
    /// The tag's own object, if it is an annotated one.
    pub object: Option<String>,
}

/// References with their objects, in an order that git could list them in.
fn references(tags: &[PublishedTag]) -> Vec<(String, String)> {
    let main = commit("main");
    let mut list = vec![
        (main.clone(), "HEAD".to_owned()),
        (main, "refs/heads/main".to_owned()),
        (
            hex::encode(label::<20>("a pull request")),
            "refs/pull/1/head".to_owned(),
        ),
    ];
    for tag in tags {
        let name = format!("refs/tags/{}", tag.name);
        if let Some(object) = &tag.object {
            list.push((object.clone(), name.clone()));
            list.push((tag.commit.clone(), format!("{name}^{{}}")));
        } else {
            list.push((tag.commit.clone(), name));
        }
    }
    list
}

/// A packet: its length with itself, in four hex digits, and the line.
pub fn packet(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

/// What the repository answers to `GET /info/refs?service=git-upload-pack`.
pub fn advertisement(tags: &[PublishedTag]) -> String {
    let mut text = packet("# service=git-upload-pack\n") + "0000";
    let mut capabilities = "\0multi_ack symref=HEAD:refs/heads/main object-format=sha1 agent=fake";
    for (object, name) in references(tags) {
        text += &packet(&format!("{object} {name}{capabilities}\n"));
        capabilities = "";
    }
    text + "0000"
}

/// What `git ls-remote` says of it.
pub fn ls_remote(tags: &[PublishedTag]) -> String {
    let lines = references(tags).into_iter();
    lines
        .map(|(object, name)| format!("{object}\t{name}\n"))
        .collect()
}
