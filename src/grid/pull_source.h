/* pull_source.h: from a name to the files to download: asks hf.co or an Ollama registry.
 * Floor: grid.  Thread: the pull's own.  Allocates: the plan.
 *   hf.co      GET /api/models/ORG/REPO/tree/main?recursive=true lists files with size and SHA-256;
 *              /ORG/REPO/resolve/main/FILE is the file (huggingface.co/docs/hub/api)
 *              A repository without GGUF files gives its ONNX model: see pull_choose_onnx.
 *   Ollama     GET /v2/NS/NAME/manifests/TAG and /v2/NS/NAME/blobs/sha256:HEX (the protocol
 *              of the OCI distribution specification)
 *   a peer     GET /grid/v1/models/NAME and /grid/v1/blobs/HEX (blobs.h) */
#pragma once
#include "grid/pull.h"
#include "grid/store.h"
#include "grid/store_name.h"
#include "net/http_client.h"

#define PULL_DOCUMENT_BYTES_MAX (16u << 20) /* a list of files is 1 MB at 5,000 of them */

struct pull_item {
    char *url;
    char *file;                       /* its name, for people */
    char digest[STORE_DIGEST_SIZE];   /* "": unknown */
    uint64_t size;                    /* 0: unknown */
    const char *bearer;               /* borrowed from the request; NULL: none */
    char role[STORE_ROLE_SIZE];       /* of its layer */
    char layer_file[STORE_FILE_SIZE]; /* of its layer; "": none */
};

struct pull_plan {
    struct pull_item *items; /* the model's files, in order */
    size_t n;
    uint64_t size;            /* together; 0: unknown */
    struct store_model model; /* texts and source; layers come with the files */
};

/* As pull_run. Small texts (licence, template) are fetched here already. */
SL_CHECK sl_status pull_plan_make(const struct pull_request *request, const struct store_name *name,
                                  struct http_client *client, struct pull_plan *out,
                                  struct sl_err *err);
void pull_plan_done(struct pull_plan *plan); /* zeroed is fine */
