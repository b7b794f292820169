#include "exec/onnx/ort.h"
#include "base/log.h"
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef STARLANE_ONNXRUNTIME_LIB
#define STARLANE_ONNXRUNTIME_LIB ""
#endif
#define LIBRARY "libonnxruntime.so"

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static struct ort loaded;
static struct sl_err load_err;

/* What fails is returned as well, so here it is no more than information. */
static void log_from_ort(void *ctx, int severity, const char *category, const char *id,
                         const char *place, const char *message)
{
    (void)ctx;
    (void)category;
    (void)id;
    (void)place;
    sl_log(severity >= ORT_ABI_LOG_FATAL ? SL_LOG_WARN : SL_LOG_INFO, "onnxruntime", "%.*s",
           (int)strcspn(message, "\n"), message);
}

/* A file of the folder `sub` beside the executable's. */
static void *open_beside(const char *sub)
{
    char exe[PATH_MAX], path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return NULL;
    exe[n] = '\0';
    if (snprintf(path, sizeof path, "%s%s/" LIBRARY, dirname(exe), sub) >= (int)sizeof path)
        return NULL;
    return access(path, R_OK) == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *open_library(void)
{
    const char *env = getenv("STARLANE_ONNXRUNTIME");
    void *handle;
    if (env) return dlopen(env, RTLD_NOW | RTLD_LOCAL);
    handle = open_beside("/../lib/starlane");
    if (!handle) handle = open_beside("");
    if (!handle && sizeof STARLANE_ONNXRUNTIME_LIB > 1) /* "": none was built */
        handle = dlopen(STARLANE_ONNXRUNTIME_LIB, RTLD_NOW | RTLD_LOCAL);
    if (!handle) handle = dlopen(LIBRARY ".1", RTLD_NOW | RTLD_LOCAL);
    return handle ? handle : dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

static sl_status take_table(struct ort *ort, struct sl_err *err)
{
    const struct ort_abi_base *(*get_base)(void) = NULL;
    Dl_info where;
    *(void **)&get_base = dlsym(ort->handle, "OrtGetApiBase");
    const struct ort_abi_base *base = get_base ? get_base() : NULL;
    if (!base) return sl_err_set(err, SL_UNAVAILABLE, "the library has no OrtGetApiBase");
    if (dladdr(*(void **)&get_base, &where) && where.dli_fname)
        (void)snprintf(ort->path, sizeof ort->path, "%s", where.dli_fname);
    ort->version = base->get_version();
    const void *const *table = base->get_api(ORT_ABI_VERSION);
    if (!table)
        return sl_err_set(err, SL_UNAVAILABLE,
                          "%s is ONNX Runtime %s; 1.%d is the lowest that serves", ort->path,
                          ort->version, ORT_ABI_VERSION);
#define X(place, result, name, parameters) *(const void **)&ort->api.name = table[place];
    ORT_FUNCTIONS(X)
#undef X
    return SL_OK;
}

static sl_status make_env(struct ort *ort, struct sl_err *err)
{
    sl_status status =
        ort_result(ort,
                   ort->api.CreateEnvWithCustomLogger(log_from_ort, NULL, ORT_ABI_LOG_WARNING,
                                                      "starlane", &ort->env),
                   err);
    if (status == SL_OK) status = ort_result(ort, ort->api.DisableTelemetryEvents(ort->env), err);
    if (status == SL_OK)
        status = ort_result(ort, ort->api.GetAllocatorWithDefaultOptions(&ort->allocator), err);
    if (status == SL_OK)
        status = ort_result(ort,
                            ort->api.CreateCpuMemoryInfo(ORT_ABI_ARENA_ALLOCATOR,
                                                         ORT_ABI_MEMORY_DEFAULT, &ort->memory),
                            err);
    return status;
}

static void load(void)
{
    loaded.handle = open_library();
    if (!loaded.handle) {
        const char *why = dlerror();
        load_err.status =
            sl_err_set(&load_err, SL_UNAVAILABLE,
                       "no ONNX Runtime on this machine (%s): run scripts/onnxruntime.sh, install "
                       "libonnxruntime, or name the file in STARLANE_ONNXRUNTIME",
                       why ? why : "not found");
        return;
    }
    load_err.status = take_table(&loaded, &load_err);
    if (load_err.status == SL_OK) load_err.status = make_env(&loaded, &load_err);
}

sl_status ort_load(const struct ort **out, struct sl_err *err)
{
    (void)pthread_once(&load_once, load);
    if (load_err.status != SL_OK) return sl_err_set(err, load_err.status, "%s", load_err.text);
    *out = &loaded;
    return SL_OK;
}

/* The library has no code for want of memory; its own words tell. */
static bool tells_no_memory(const char *text)
{
    static const char *const words[] = {"bad_alloc", "bad allocation", "Failed to allocate memory",
                                        "out of memory", "Available memory of"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strstr(text, words[i])) return true;
    }
    return false;
}

static sl_status status_of(int code)
{
    switch (code) {
    case ORT_ABI_INVALID_ARGUMENT: return SL_INVALID;
    case ORT_ABI_NO_SUCH_FILE: return SL_NOT_FOUND;
    case ORT_ABI_NO_MODEL:
    case ORT_ABI_INVALID_PROTOBUF:
    case ORT_ABI_INVALID_GRAPH: return SL_CORRUPT;
    case ORT_ABI_NOT_IMPLEMENTED: return SL_UNSUPPORTED;
    default: return SL_INTERNAL;
    }
}

/* The library tells where in its source it found an error: "/folder/file.cc:52 void f(int) const ",
 * which says nothing to its reader and would leave no room for what does. What stands behind that;
 * `text` where it does not begin so. */
static const char *skip_place(const char *text)
{
    const char *p = text + strcspn(text, " :");
    if (*text != '/' || *p != ':' || p - text < 4) return text;
    if (strncmp(p - 3, ".cc", 3) != 0 && strncmp(p - 2, ".h", 2) != 0) return text;
    p += 1 + strspn(p + 1, "0123456789");
    if (*p != ' ') return text;
    const char *after = strchr(p, '(');
    for (int depth = 0; after && *after; after++) {
        depth += *after == '(' ? 1 : *after == ')' ? -1 : 0;
        if (!depth && after[1] != '(') break;
    }
    if (!after || !*after) return p + 1;
    after++;
    if (!strncmp(after, "::<lambda", 9)) after += strcspn(after, " ");
    if (!strncmp(after, " const", 6)) after += 6;
    if (!strncmp(after, " [with ", 7)) after += strcspn(after, "]") + 1;
    return after + strspn(after, " ");
}

/* The library's words without places in its source and without the path of the model, which is not
 * for clients to know. */
static void tidy(const char *text, char out[SL_ERR_TEXT_MAX])
{
    const char *failed = strstr(text, " failed:");
    size_t n = 0;
    if (!strncmp(text, "Load model from ", 16) && failed) text = failed + 8;
    while (*text && n < SL_ERR_TEXT_MAX - 1) {
        const char *after = skip_place(text);
        if (after == text)
            out[n++] = *text++;
        else
            text = after;
    }
    while (n > 0 && out[n - 1] == '\n') n--;
    out[n] = '\0';
}

sl_status ort_result(const struct ort *ort, ort_abi_status result, struct sl_err *err)
{
    if (!result) return SL_OK;
    const char *text = ort->api.GetErrorMessage(result);
    sl_status status = tells_no_memory(text) ? SL_NOMEM : status_of(ort->api.GetErrorCode(result));
    char words[SL_ERR_TEXT_MAX];
    tidy(text, words);
    (void)sl_err_set(err, status, "ONNX Runtime: %s", words);
    ort->api.ReleaseStatus(result);
    return status;
}
