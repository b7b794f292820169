#include "grid/pull_choose.h"
#include "base/buf.h"
#include "grid/store_name.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define LISTED_BYTES_MAX 300 /* of the names in a message */

/* What "latest" tries: good quality for the size first, then what runs at all. */
static const char *const preferred[] = {"Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q5_K_S", "IQ4_XS",
                                        "IQ4_NL", "Q6_K",   "Q8_0", "Q3_K_M", "Q3_K_L", "Q2_K",
                                        "F16",    "FP16",   "BF16", "F32"};

bool pull_path_has_quant(const char *path, const char *quant)
{
    size_t n = strlen(quant);
    for (const char *p = path; (p = strcasestr(p, quant)); p++) {
        bool begins = p == path || !isalnum((unsigned char)p[-1]);
        bool ends = !isalnum((unsigned char)p[n]) && p[n] != '_';
        if (begins && ends) return true;
    }
    return false;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A GGUF file to begin with: not a later shard, not the eyes of a vision model, not the data of a
 * quantisation tool. */
static bool is_model(const char *path)
{
    size_t n = strlen(path), n_prefix;
    int no, n_shards;
    const char *base = base_name(path);
    if (n < 6 || strcasecmp(path + n - 5, ".gguf") != 0) return false;
    if (strncasecmp(base, "mmproj", 6) == 0 || strcasestr(base, "imatrix")) return false;
    return !store_split_name(path, &n_prefix, &no, &n_shards) || no == 0;
}

static size_t find_quant(const struct pull_candidate *files, size_t n, const char *quant)
{
    size_t i = 0;
    while (i < n && !(is_model(files[i].path) && pull_path_has_quant(files[i].path, quant))) i++;
    return i;
}

static size_t find_latest(const struct pull_candidate *files, size_t n)
{
    for (size_t k = 0; k < sizeof preferred / sizeof *preferred; k++) {
        size_t i = find_quant(files, n, preferred[k]);
        if (i < n) return i;
    }
    size_t i = 0;
    while (i < n && !is_model(files[i].path)) i++;
    return i;
}

static size_t find_file(const struct pull_candidate *files, size_t n, const char *name)
{
    size_t i = 0;
    while (i < n && strcmp(base_name(files[i].path), name) != 0) i++;
    return i;
}

static sl_status not_found(const struct pull_candidate *files, size_t n, const char *tag,
                           struct sl_err *err)
{
    struct sl_buf names;
    sl_buf_init(&names, LISTED_BYTES_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!is_model(files[i].path)) continue;
        if (sl_buf_addf(&names, "%s%s", names.len ? ", " : "", base_name(files[i].path)) != SL_OK)
            break;
    }
    if (names.len == 0)
        (void)sl_err_set(err, SL_NOT_FOUND,
                         "there is no GGUF file and no one ONNX model in the repository");
    else
        (void)sl_err_set(err, SL_NOT_FOUND, "no file for \"%s\"; there is: %s", tag, names.data);
    sl_buf_done(&names);
    return SL_NOT_FOUND;
}

size_t pull_choose_shard(const struct pull_candidate *files, size_t n, size_t first, int no)
{
    size_t n_prefix, n_own;
    int at, n_shards, own_at, own_n;
    if (!store_split_name(files[first].path, &n_prefix, &at, &n_shards)) return n;
    for (size_t i = 0; i < n; i++) {
        if (store_split_name(files[i].path, &n_own, &own_at, &own_n) && own_at == no &&
            own_n == n_shards && n_own == n_prefix &&
            memcmp(files[i].path, files[first].path, n_prefix) == 0)
            return i;
    }
    return n;
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), n_suffix = strlen(suffix);
    return n > n_suffix && strcasecmp(s + n - n_suffix, suffix) == 0;
}

static size_t find_path(const struct pull_candidate *files, size_t n, const char *path)
{
    size_t i = 0;
    while (i < n && strcmp(files[i].path, path) != 0) i++;
    return i;
}

/* n: there is none, or more than one. */
static size_t find_only_onnx(const struct pull_candidate *files, size_t n)
{
    size_t found = n;
    for (size_t i = 0; i < n; i++) {
        if (!has_suffix(files[i].path, ".onnx")) continue;
        if (found < n) return n;
        found = i;
    }
    return found;
}

bool pull_choose_onnx(const struct pull_candidate *files, size_t n, const char *tag, size_t *out)
{
    if (has_suffix(tag, ".onnx")) {
        *out = find_file(files, n, tag);
        return *out < n;
    }
    if (strcmp(tag, "latest") != 0 || find_latest(files, n) < n) return false;
    *out = find_path(files, n, "model.onnx");
    if (*out == n) *out = find_path(files, n, "onnx/model.onnx");
    if (*out == n) *out = find_only_onnx(files, n);
    return *out < n;
}

bool pull_is_onnx_data(const char *path, const char *model, const char **out)
{
    size_t n = strlen(model);
    if (strncmp(path, model, n) != 0) return false;
    if (strncmp(path + n, "_data", 5) != 0 && strncmp(path + n, ".data", 5) != 0) return false;
    *out = path + (base_name(model) - model);
    return true;
}

sl_status pull_choose(const struct pull_candidate *files, size_t n, const char *tag, size_t *out,
                      int *out_shards, struct sl_err *err)
{
    size_t n_tag = strlen(tag), n_prefix;
    int no;
    size_t i = strcmp(tag, "latest") == 0                               ? find_latest(files, n)
               : n_tag > 5 && strcasecmp(tag + n_tag - 5, ".gguf") == 0 ? find_file(files, n, tag)
                                                                        : find_quant(files, n, tag);
    if (i == n) return not_found(files, n, tag, err);
    *out_shards = 1;
    if (store_split_name(files[i].path, &n_prefix, &no, out_shards) && no > 0)
        i = pull_choose_shard(files, n, i, 0);
    for (int k = 0; i < n && k<*out_shards && * out_shards> 1; k++) {
        if (pull_choose_shard(files, n, i, k) == n)
            return sl_err_set(err, SL_CORRUPT, "%s: shard %d of %d is missing", files[i].path,
                              k + 1, *out_shards);
    }
    if (i == n) return sl_err_set(err, SL_CORRUPT, "%s: its first shard is missing", tag);
    *out = i;
    return SL_OK;
}
