"""Models that chat, for tests: what the store has, with a chat template of the test's own."""
import json

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
"""All that was said, and nothing around it."""

THINKS = PLAIN + "{% if enable_thinking is not false %}<think>{% endif %}"
"""The answer begins as reasoning, unless it is asked not to."""


def import_chat_model(starlane, path, template=PLAIN, name="talker", **fields):
    """The file as a stored model that chats; fields go into its manifest too. Returns its name."""
    starlane.call("import", path, "--name", name)
    home = starlane.environment["STARLANE_HOME"]
    manifest = f"{home}/models/manifests/registry.ollama.ai/library/{name}/latest"
    with open(manifest, encoding="utf-8") as file:
        document = json.load(file)
    with open(manifest, "w", encoding="utf-8") as file:
        json.dump({**document, "chat_template": template, **fields}, file)
    return name
