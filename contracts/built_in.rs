// The contracts that the binary brings along, and where the demo mounts them.
BuiltIn {
    files: &[
        ("codx.toml", include_str!("codx.toml")),
        ("coding-assistant.toml", include_str!("coding-assistant.toml")),
        ("agent-stream.toml", include_str!("agent-stream.toml")),
        ("toolbox.toml", include_str!("toolbox.toml")),
        ("security-gate.toml", include_str!("security-gate.toml")),
    ],
    demo: &[
        ("coding-assistant", "/"),
        ("codx", "/codx"),
        ("agent-stream", "/agents"),
        ("toolbox", "/toolbox"),
        ("security-gate", "/gate"),
    ],
}
