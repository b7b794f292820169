/* chat_template.h: turns a conversation into the prompt a model was trained on, by the Jinja
 * template that comes with the model (docs/chat-templates.md).
 * Floor: exec/chat.  Thread: any; a template is never written after chat_template_create, so
 * several threads may render it at once.  Allocates: the template, at create; a render takes
 * what it needs and gives it back before it returns.
 * Invariant: whatever the template and the conversation, a call ends within the limits of jinja.h
 * and never takes more memory than these allow. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/json_read.h"
#include "exec/chat/chat_format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For models that come without a template: the contents of the messages, a line break between. */
extern const char chat_template_plain[];

struct chat_template; /* opaque */

/* Parses source[0..n), which is copied. bos_text and eos_text are the texts of the model's special
 * tokens, bos_token and eos_token to the template; NULL leaves them undefined. On failure *out is
 * untouched. INVALID ("template line 12: ..."), LIMIT, NOMEM. */
SL_CHECK sl_status chat_template_create(const char *source, size_t n, const char *bos_text,
                                        const char *eos_text, struct chat_template **out,
                                        struct sl_err *err);
void chat_template_destroy(struct chat_template *tmpl); /* NULL is fine */

/* Appends the prompt to `out`. `variables` is an object: "messages" (OpenAI's shape), "tools",
 * "add_generation_prompt", and whatever else the template may ask for ("enable_thinking").
 * now_s, seconds since the epoch, is the time that strftime_now shows, in the local zone.
 * Before the template sees them: tool_calls[].function.arguments that is a string holding a JSON
 * object becomes that object; content that is a list of nothing but text parts becomes one string,
 * unless the template walks over parts itself; content that is null or left out beside tool calls
 * becomes "" if the template cannot work with null.
 * INVALID: the template refuses (raise_exception) or cannot work with these variables; err says
 * which line. LIMIT: over a limit of jinja.h or out's maximum; NOMEM. On failure out is as it
 * was. */
SL_CHECK sl_status chat_template_render(const struct chat_template *tmpl,
                                        const struct sl_json_value *variables, int64_t now_s,
                                        struct sl_buf *out, struct sl_err *err);

/* What the template's source says about the output of the model it was written for. */
void chat_template_traits(const struct chat_template *tmpl, struct chat_traits *out);

/* Does the rendered prompt end inside an open <think>, so that the answer begins with reasoning
 * without a tag of its own? Only white space may follow the tag. */
bool chat_prompt_opens_thinking(const char *prompt, size_t n);
