//! Tool calls in `/v1/chat/completions`: the first tool, with the prompt.

use serde_json::{Value, json};

/// Of a stream's piece of arguments.
const PIECE: usize = 7;

pub(super) struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Call {
    /// Where tools are offered, and none has answered yet.
    pub(super) fn wanted(question: &Value, prompt: &str, of: &str) -> Option<Self> {
        let last = question["messages"].as_array()?.last()?;
        if last["role"] == "tool" || question["tool_choice"] == "none" {
            return None;
        }
        Some(Self {
            id: format!("call_{of}"),
            name: question["tools"][0]["function"]["name"]
                .as_str()?
                .to_owned(),
            arguments: json!({"text": prompt}).to_string(),
        })
    }

    pub(super) fn message(&self) -> Value {
        json!({"role": "assistant", "content": null, "tool_calls": [{
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }]})
    }

    /// The name first, then the arguments piece by piece.
    pub(super) fn deltas(&self) -> Vec<Value> {
        let first = json!({
            "index": 0,
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": ""},
        });
        let characters: Vec<char> = self.arguments.chars().collect();
        let pieces = characters.chunks(PIECE).map(|piece| {
            let piece: String = piece.iter().collect();
            json!({"index": 0, "function": {"arguments": piece}})
        });
        std::iter::once(first)
            .chain(pieces)
            .map(|call| json!({"tool_calls": [call]}))
            .collect()
    }
}
