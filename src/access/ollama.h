/* ollama.h: Ollama's native API (https://github.com/ollama/ollama/blob/main/docs/api.md), so that
 * tools made for Ollama work unchanged; docs/ollama-api.md says what differs. Handlers for
 * routes.c.
 *
 *   ollama_generate.c  /api/generate       ollama_chat.c    /api/chat
 *   ollama_embed.c     /api/embed(dings)   ollama_models.c  /api/tags, /api/ps, /api/version, ...
 *   ollama_show.c      /api/show           ollama_pull.c    /api/pull
 *   ollama_load.c      requests without a prompt
 *   ollama.c           what they share: ollama_int.h
 *
 * Floor: access.  Thread: the loop's.  Allocates: with the call. */
#pragma once

struct call;
struct ollama_pulls; /* those under way */

void ollama_generate(struct call *call);   /* POST /api/generate */
void ollama_chat(struct call *call);       /* POST /api/chat */
void ollama_embed(struct call *call);      /* POST /api/embed */
void ollama_embeddings(struct call *call); /* POST /api/embeddings, the older form */
void ollama_tags(struct call *call);       /* GET /api/tags */
void ollama_show(struct call *call);       /* POST /api/show */
void ollama_ps(struct call *call);         /* GET /api/ps */
void ollama_version(struct call *call);    /* GET /api/version */
void ollama_copy(struct call *call);       /* POST /api/copy */
void ollama_delete(struct call *call);     /* DELETE /api/delete */
void ollama_pull(struct call *call);       /* POST /api/pull */

/* Ends the pulls under way: their clients are told, and a later pull goes on. NULL is fine. */
void ollama_pulls_cancel(struct ollama_pulls *pulls);
/* As cancel, and waits for their threads. Their calls must be gone. NULL is fine. */
void ollama_pulls_destroy(struct ollama_pulls *pulls);
