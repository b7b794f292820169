/* chat_format.h: how a model writes what is not plain answer: tool calls and reasoning.
 * Floor: exec/chat.  Thread: any.  Allocates: nothing.
 * The template that prompts a model tells which of these it was trained on (chat_template_traits);
 * whoever reads the model's output goes by it. */
#pragma once
#include <stdbool.h>

enum chat_tool_format {
    CHAT_TOOLS_NONE, /* the template knows no tools */
    /* <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, one such block a call: Hermes,
     * Qwen2.5, Qwen3. */
    CHAT_TOOLS_HERMES,
    /* The whole answer is {"name": "f", "parameters": {...}}, or <|python_tag|> and then that
     * object or f.call(a="b"): Llama 3.1 to 3.3. */
    CHAT_TOOLS_LLAMA3,
    /* <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>CALL<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>, where CALL
     * is function<｜tool▁sep｜>NAME\n```json\nOBJECT\n``` (V3, R1) or
     * NAME<｜tool▁sep｜>OBJECT (V3.1). */
    CHAT_TOOLS_DEEPSEEK,
    /* [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]: Mistral 7B v0.3, Nemo. */
    CHAT_TOOLS_MISTRAL,
    /* <|channel|>commentary to=functions.f <|constrain|>json<|message|>OBJECT<|call|>: gpt-oss. Its
     * reasoning is the channel "analysis", not <think>. */
    CHAT_TOOLS_HARMONY
};

struct chat_traits {
    enum chat_tool_format tools;
    bool thinks; /* answers may begin with reasoning in <think>...</think> */
};
