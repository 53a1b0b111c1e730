//! Where it listens, and for whom.

use super::*;

#[test]
fn a_key_is_no_argument_and_stays_out_of_sight() {
    let dir = folder("key");
    let key = dir.join("key");
    std::fs::write(&key, "sk-in-a-file\n").unwrap();
    let tokens = dir.join("tokens");
    std::fs::write(&tokens, "ann token-of-ann-0123456789\n").unwrap();
    let serve = |arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments: Vec<_> = ["serve", "--port=0", "--state-dir=none", "--log=trace"]
            .iter()
            .chain(arguments)
            .map(|&text| text.to_owned())
            .collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let output = program(&arguments, &variables);
        (output.status.code(), text(&output.stderr))
    };
    let file = format!("--api-key-file={}", key.display());
    let token_file = format!("--client-token-file={}", tokens.display());
    let in_variable = ("VERIFIED_PROXY_API_KEY", "sk-in-a-variable");

    // Reached from elsewhere, whoever comes could spend it.
    for (arguments, variables) in [
        (&["--host=0.0.0.0", file.as_str()][..], &[][..]),
        (&["--host=::"], &[in_variable]),
    ] {
        let (code, said) = serve(arguments, variables);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("hint: give clients tokens with --client-token-file"),
            "{said}"
        );
        assert!(!said.contains("sk-in"), "{said}");
    }
    // With tokens it may; there is no authority here, which ends it later.
    let (code, said) = serve(&["--host=0.0.0.0", &file, &token_file], &[]);
    assert_eq!(code, Some(3), "{said}");
    for secret in ["sk-in", "token-of-ann"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert!(said.contains("other users can read this file"), "{said}");

    for (key, why) in [("", "it is empty"), ("two words", "it is not one word")] {
        let (code, said) = serve(&[], &[("VERIFIED_PROXY_API_KEY", key)]);
        assert_eq!(code, Some(2), "{said}");
        let expected = format!("VERIFIED_PROXY_API_KEY: not an API key: {why}");
        assert!(said.contains(&expected), "{said}");
    }
    let (code, said) = serve(&["--client-token-file", &key.display().to_string()], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("line 1: expected a name, a space and a token"),
        "{said}"
    );
    assert!(!said.contains("sk-in"), "{said}");
    // The key in place of its file's path.
    let mistaken = ("VERIFIED_PROXY_API_KEY_FILE", "sk-in-the-wrong-place");
    let (code, said) = serve(&[], &[mistaken]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("take the path of a file"), "{said}");
    assert!(
        said.contains("api-key-file=(not shown: no such file)"),
        "{said}"
    );
    assert!(!said.contains("sk-in"), "{said}");
    let (code, said) = serve(&["--api-key=sk-in-an-argument"], &[]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_socket_takes_the_place_of_a_port() {
    for arguments in [
        &["--listen=unix:relative"][..],
        &["--listen=/no/scheme"],
        &["--listen=127.0.0.1:80"],
        &["--listen=unix:/x", "--port=1"],
        &["--listen=unix:/x", "--host=127.0.0.1"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
    let output = run(&["--listen=unix:/nonexistent/proxy.sock", "--state-dir=none"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("cannot listen on unix:/nonexistent/proxy.sock"),
        "{said}"
    );
}
