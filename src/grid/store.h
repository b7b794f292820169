/* store.h: the models on this machine: manifests by name that point at blobs by SHA-256.
 *
 *   HOME/models/blobs/sha256-<64 hex>            a model file, read-only, named by its content
 *   HOME/models/manifests/<host>/<ns>/<name>/<tag>   JSON, see store_manifest.h
 *   HOME/models/shards/<64 hex>/...              the files of a model that has several, or whose
 *                                                names matter (ONNX), under the names it needs
 *   HOME/models/partial/                         what pulls have so far, see pull_journal.h
 *   HOME/models/chunks/                          what blobs' pieces must be, see store_chunks.h
 *   HOME/models/parts/                           parts of models, see store_parts.h
 *   HOME/models/lock                             flock: exclusive while names or blobs change
 *
 * Floor: grid.  Thread: a store has no mutable state of its own, so any thread may use it; calls
 * that change it wait for each other, also across processes. They block (files): call them on a
 * helper thread where a loop must not wait.  Allocates: what it returns.
 * Invariant: a manifest is written last and atomically, after its blobs are whole, checked and on
 * disk; a blob is removed only when no manifest names it and no pull or import has claimed it. So
 * what store_list gives can be loaded, whatever was killed when. */
#pragma once
#include "base/err.h"
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_NAME_SIZE 1024    /* a name with its NUL; only https:// names come near */
#define STORE_LAYERS_MAX 1100   /* a model may have 1,024 shards, GGUF_SHARDS_MAX, and a few more */
#define STORE_DIGEST_SIZE 65    /* hex and NUL */
#define STORE_ROLE_SIZE 32      /* "model", "projector" */
#define STORE_FILE_SIZE 256     /* a file's path below its model's folder; ONNX_PATH_SIZE */
#define STORE_TAG_SIZE 129      /* STORE_PART_SIZE */
#define STORE_TAGS_MAX 10000    /* of one name */
#define STORE_WORD_SIZE 64      /* "qwen2", "Q4_K_M", "7.5M" */
#define STORE_MODELS_MAX 100000 /* of one list: past it the folder is no store of ours */
#define STORE_BLOB_BYTES_MAX (UINT64_C(4) << 40) /* the largest file of today is 0.05 TB */

struct store; /* opaque */

struct store_layer {
    /* "model": a GGUF file, or one shard of it, in order; or the ONNX file. Of an ONNX model
     * also "data" (weights in other files), "tokenizer", "labels", "config" and others of
     * store_onnx.h. */
    char role[STORE_ROLE_SIZE];
    char digest[STORE_DIGEST_SIZE];
    char file[STORE_FILE_SIZE]; /* its path beside the others: "model.onnx"; "": of GGUF files */
    uint64_t size;
};

/* What a list or an API says of a model without opening it. */
struct store_details {
    char format[STORE_WORD_SIZE];             /* "gguf", "onnx" */
    char family[STORE_WORD_SIZE];             /* general.architecture: "qwen2"; of ONNX: "bert" */
    char parameter_size[STORE_WORD_SIZE];     /* "7.5M", "1.5B" */
    char quantization_level[STORE_WORD_SIZE]; /* "Q4_K_M", "FP32"; "unknown" */
    uint64_t n_params;
    uint64_t context_length; /* trained for; 0: the file does not say */
};

struct store_model {
    char name[STORE_NAME_SIZE]; /* as a user types it: "qwen2.5:0.5b", "hf.co/org/repo:Q4_K_M" */
    /* Absolute: the GGUF file, or the first of its shards; the .onnx file, with the model's other
     * files beside it under their names. */
    char path[PATH_MAX];
    /* SHA-256 in hex: of the file; of a model of several, see store_model_sum. "" for a local path,
     * which nobody hashed. */
    char digest[STORE_DIGEST_SIZE];
    uint64_t size;       /* bytes of the model, all shards, weights in other files too */
    int64_t modified_ms; /* Unix time: when the manifest (or the file) was written */
    struct store_details details;
    bool bundled; /* the model that comes with the program: cannot be removed */
    bool local;   /* a path, not a name in the store */
    /* From the manifest. NULL: it says nothing. NUL-ended, the model's own. */
    char *chat_template;   /* Jinja; used instead of the file's own */
    char *ollama_template; /* Go's language: shown, not run; kept when the file has no other */
    char *system;          /* message for conversations that bring none */
    char *licence;
    char *parameters; /* a JSON object as Ollama has it: {"temperature":0.6,"stop":["</s>"]} */
    char *source;     /* where it came from: a URL or a path */
    char *processing; /* a JSON object: how an image becomes the input, an output becomes labels */
    char *options;    /* a JSON object: how ONNX Runtime runs it (docs/onnx.md) */
    struct store_layer *layers;
    size_t n_layers;
};

struct store_models {
    struct store_model *v; /* by name */
    size_t n;
    size_t n_broken;      /* manifests that could not be used and are not listed */
    struct sl_err broken; /* why, of the first of them */
};

/* HOME is ~/.starlane or what stands for it; nothing is created before something is stored, and a
 * home that is absent or read-only is a store that can be read. INVALID ("" or too long), NOMEM. */
SL_CHECK sl_status store_open(const char *home, struct store **out, struct sl_err *err);
void store_close(struct store *store); /* NULL is fine */

/* A model by its name in the store, or the bundled one: for names that strangers send. A name
 * without a tag is the tag "default" where there is one, else "latest"; "latest", where there is
 * none, is the highest number among the tags. So out->name may be more than was asked for.
 * NOT_FOUND says how to get it; INVALID (not a name), CORRUPT (its manifest), LIMIT, IO, NOMEM.
 * *out is the caller's to store_model_done on success, and untouched on failure. */
SL_CHECK sl_status store_find(const struct store *store, const char *name, struct store_model *out,
                              struct sl_err *err);

/* As store_find, and else the path of a GGUF or ONNX file, whose header is read (as gguf_open,
 * onnx_file_open): for names that the user of this machine gives. A name that begins with '/' or
 * '.' is a path only. */
SL_CHECK sl_status store_resolve(const struct store *store, const char *name,
                                 struct store_model *out, struct sl_err *err);

/* store_resolve for those who want nothing but the file: a path's file is not opened. */
SL_CHECK sl_status store_resolve_path(const struct store *store, const char *name,
                                      char out[PATH_MAX], struct sl_err *err);
void store_model_done(struct store_model *model); /* zeroed is fine */

/* The path of the model's first file of that role: "labels", "tokenizer". NOT_FOUND: it has none;
 * INVALID: too long. */
SL_CHECK sl_status store_model_file(const struct store_model *model, const char *role,
                                    char out[PATH_MAX], struct sl_err *err);

struct store_tags {
    char (*v)[STORE_TAG_SIZE]; /* numbers first, by value; then the others, by text */
    size_t n;
};

/* The tags under which models of that name (without its tag) are stored; none is no failure.
 * INVALID, LIMIT, IO, NOMEM. */
SL_CHECK sl_status store_versions(const struct store *store, const char *name,
                                  struct store_tags *out, struct sl_err *err);
void store_tags_done(struct store_tags *tags);

/* All models, the bundled one among them, by name. IO, LIMIT, NOMEM. */
SL_CHECK sl_status store_list(const struct store *store, struct store_models *out,
                              struct sl_err *err);
void store_models_done(struct store_models *models);

/* Gives a stored or bundled model a second name; replaces what had it. NOT_FOUND, INVALID. */
SL_CHECK sl_status store_cp(struct store *store, const char *from, const char *to,
                            struct sl_err *err);

/* Removes the name, and the blobs that no other name needs; *freed (NULL is fine) are their bytes.
 * NOT_FOUND; INVALID: the bundled model. A process that has the model loaded keeps its mapping. */
SL_CHECK sl_status store_rm(struct store *store, const char *name, uint64_t *freed,
                            struct sl_err *err);

/* Removes blobs without a name, the remains of pulls and the parts of models that stages had, but
 * for those that are claimed or in use now. */
SL_CHECK sl_status store_sweep(struct store *store, uint64_t *freed, struct sl_err *err);

/* What an import is told beside the path. All may be NULL, and a NULL in place of the struct is
 * the same. */
struct store_import {
    const char *name;       /* NULL: made of the file's or folder's; of versions: without a tag */
    const char *labels;     /* ONNX: path of a file with a name a line */
    const char *processing; /* ONNX: JSON object, see exec/vision/processing.h */
    const char *options;    /* ONNX: JSON object, see exec/onnx/onnx_options.h */
};

/* Takes in a GGUF file (any shard of a split one) or an ONNX file (with the files that it names): a
 * reflink or a hard link where the file system can, a copy elsewhere. A hard link shares its bytes
 * with the original: who overwrites that in place changes the model. Without a name it is the
 * file's, in lower case, ":latest"; a model.onnx has its folder's. CORRUPT when it is no sound
 * file, UNSUPPORTED, NOT_FOUND, IO, LIMIT (no room), INVALID: the name, or what else it is told.
 * What had the name loses it. */
SL_CHECK sl_status store_import_model(struct store *store, const char *path,
                                      const struct store_import *how, struct sl_err *err);

/* The name that it makes of a file's path. INVALID: nothing usable is in it. */
SL_CHECK sl_status store_import_name(const char *path, char out[STORE_NAME_SIZE],
                                     struct sl_err *err);

/* The same with nothing but a name; NULL: made. */
SL_CHECK sl_status store_import_file(struct store *store, const char *path, const char *name,
                                     struct sl_err *err);

/* Called after each model of a folder: its name, and NULL or why it was left out. */
typedef void store_imported_fn(void *ctx, const char *name, const struct sl_err *why_not);

/* The models of a folder: all *.gguf in it (of split models the first shard counts), and the ONNX
 * models that store_onnx.h finds. One that fails is told and skipped. NOT_FOUND: none is there;
 * INVALID: told a name or more, with more than one model there. */
SL_CHECK sl_status store_import_dir(struct store *store, const char *dir,
                                    const struct store_import *how, store_imported_fn *tell,
                                    void *ctx, struct sl_err *err);

/* All models of an Ollama store: `dir` holds manifests/ and blobs/, as ~/.ollama/models does. */
SL_CHECK sl_status store_import_ollama(struct store *store, const char *dir,
                                       store_imported_fn *tell, void *ctx, struct sl_err *err);
bool store_is_ollama_dir(const char *dir);
