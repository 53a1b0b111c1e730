# Sourced by check and scripts/*: cargo tools at fixed versions.
#
# A tool that is on the PATH at its version is used; any other is built from
# source into the target folder, locked, and kept there.

tools_root=${CARGO_TARGET_DIR:-target}/tools
[[ $tools_root == /* ]] || tools_root=$PWD/$tools_root
export PATH="$tools_root/bin:$PATH"

tool_version() {
    case $1 in
    cargo-nextest) echo 0.9.143 ;;
    cargo-deny) echo 0.20.2 ;;
    cargo-fuzz) echo 0.13.2 ;;
    cargo-mutants) echo 27.1.0 ;;
    *)
        echo "no version is fixed for $1" >&2
        return 1
        ;;
    esac
}

# need_cargo_tool NAME: makes sure that `cargo NAME` is there.
need_cargo_tool() {
    local name=$1 version
    version=$(tool_version "$name")
    # `cargo-nextest --version` wants its subcommand's name; the others do not mind.
    if cargo "${name#cargo-}" --version 2>/dev/null | head -1 | grep -qF " $version"; then
        return
    fi
    echo "$name $version is not installed: building it into $tools_root"
    cargo install "$name" --version "$version" --locked --root "$tools_root"
}
