/* oip_rest.h: the REST face of the Open Inference Protocol: its paths, JSON, and Triton's binary
 * tensors. Handlers for routes.c.
 * Sources: inference_rest.md and open_inference_rest.yaml of the protocol; Triton's protocol
 * extensions (binary tensor data, model configuration, model repository, generate).
 * Floor: access.  Thread: the loop's.  Allocates: with the call.
 *
 * Names of models may hold slashes, percent-encoded or not: a path is taken apart from its end.
 *     /v2/models/NAME[/versions/V][/ready|/config|/infer|/generate|/generate_stream] */
#pragma once
#include "access/gateway_int.h"

void oip_rest_server(struct call *call);     /* GET /v2 */
void oip_rest_live(struct call *call);       /* GET /v2/health/live */
void oip_rest_ready(struct call *call);      /* GET /v2/health/ready */
void oip_rest_model(struct call *call);      /* GET and POST /v2/models/... */
void oip_rest_index(struct call *call);      /* POST /v2/repository/index */
void oip_rest_repository(struct call *call); /* POST /v2/repository/models/NAME/load, /unload */

/* --- for the files behind it --- */

/* What a path names. Texts live as long as the call; version NULL: none. */
struct oip_path {
    const char *model, *version;
};

/* Runs the model on the call's body: infer, and generate, whose answer is an object or a stream of
 * events. */
void oip_rest_infer(struct call *call, const struct oip_path *path);
void oip_rest_generate(struct call *call, const struct oip_path *path, bool stream);
/* Metadata, or the configuration. */
void oip_rest_describe(struct call *call, const struct oip_path *path, bool config);
