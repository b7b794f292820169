#include "grid/store_name.h"
#include "net/sha256.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_HASH_DIGITS 32 /* of the 64: enough that two URLs never meet */
#define SHARD_DIGITS 5

static bool is_part_char(char c, bool host)
{
    return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-' || (host && c == ':');
}

/* `what` is for the message: "model", "tag". */
static sl_status set_part(char out[STORE_PART_SIZE], const char *s, size_t n, const char *what,
                          struct sl_err *err)
{
    bool host = strcmp(what, "host") == 0;
    if (n == 0) return sl_err_set(err, SL_INVALID, "model name: the %s is empty", what);
    if (n >= STORE_PART_SIZE)
        return sl_err_set(err, SL_INVALID, "model name: the %s is longer than %d", what,
                          STORE_PART_SIZE - 1);
    bool ok = isalnum((unsigned char)s[0]) || s[0] == '_';
    for (size_t i = 0; i < n && ok; i++) ok = is_part_char(s[i], host);
    if (!ok)
        return sl_err_set(err, SL_INVALID,
                          "model name: %s \"%.*s\": letters, digits, '.', '_' and '-' only", what,
                          (int)n, s);
    memcpy(out, s, n);
    out[n] = '\0';
    return SL_OK;
}

bool store_digest_parse(const char *text, char out[STORE_DIGEST_SIZE])
{
    unsigned char digest[SHA256_BYTES];
    if (strncmp(text, "sha256:", 7) == 0 || strncmp(text, "sha256-", 7) == 0) text += 7;
    if (sha256_from_hex(text, digest) != SL_OK) return false;
    sha256_hex(digest, out);
    return true;
}

/* Cuts "#sha256=HEX" off; any other fragment means nothing to a server. */
static sl_status take_fragment(struct store_name *out, struct sl_err *err)
{
    char *hash = strchr(out->url, '#');
    if (!hash) return SL_OK;
    *hash = '\0';
    if (strncmp(hash + 1, "sha256=", 7) == 0 && store_digest_parse(hash + 8, out->digest))
        return SL_OK;
    return sl_err_set(err, SL_INVALID, "URL: after '#' only sha256= and 64 hex digits can stand");
}

/* Host and path of the URL are kept as they are: the hash alone names the folder. */
static sl_status place_url(struct store_name *out, const char *authority, struct sl_err *err)
{
    size_t n_host = strcspn(authority, "/?#");
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    if (memchr(authority, '@', n_host))
        return sl_err_set(err, SL_INVALID, "URL: no user and password in it, they would be stored");
    if (authority[n_host] != '/')
        return sl_err_set(err, SL_INVALID, "URL: the path of a file is missing");
    if (n_host > 0 && authority[0] == '[') { /* an IPv6 address: '[' is no part's character */
        memcpy(out->space, "ipv6", 5);
    } else {
        sl_status status = set_part(out->space, authority, n_host, "host", err);
        if (status != SL_OK) return status;
    }
    if (sha256_of(out->url, strlen(out->url), digest) != SL_OK)
        return sl_err_set(err, SL_INTERNAL, "URL: SHA-256 failed");
    sha256_hex(digest, hex);
    memcpy(out->model, hex, URL_HASH_DIGITS);
    out->model[URL_HASH_DIGITS] = '\0';
    memcpy(out->tag, "latest", 7);
    return SL_OK;
}

static sl_status parse_url(const char *text, size_t n_scheme, struct store_name *out,
                           struct sl_err *err)
{
    size_t n = strlen(text);
    if (n >= STORE_NAME_SIZE)
        return sl_err_set(err, SL_INVALID, "URL: longer than %d", STORE_NAME_SIZE - 1);
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] >= 127)
            return sl_err_set(err, SL_INVALID, "URL: byte %zu must be written as %%XX", i + 1);
    }
    out->source = STORE_URL;
    memcpy(out->host, text, n_scheme);
    memcpy(out->url, text, n + 1);
    sl_status status = take_fragment(out, err);
    return status == SL_OK ? place_url(out, out->url + n_scheme + 3, err) : status;
}

static bool looks_like_host(const char *s, size_t n)
{
    return memchr(s, '.', n) || memchr(s, ':', n) || (n == 9 && memcmp(s, "localhost", 9) == 0);
}

static sl_status set_host(struct store_name *out, const char *s, size_t n, struct sl_err *err)
{
    sl_status status = set_part(out->host, s, n, "host", err);
    if (status != SL_OK) return status;
    if (strcmp(out->host, "hf.co") == 0 || strcmp(out->host, "huggingface.co") == 0) {
        out->source = STORE_HF;
        memcpy(out->host, STORE_HF_HOST, sizeof STORE_HF_HOST);
    }
    if (strcmp(out->host, "http") == 0 || strcmp(out->host, "https") == 0)
        return sl_err_set(err, SL_INVALID, "model name: a URL is written with ://");
    return SL_OK;
}

/* A quantisation is the same in any case; a file's name is not. */
static void normalise_hf_tag(char *tag)
{
    size_t n = strlen(tag);
    if (strcasecmp(tag, "latest") == 0) {
        memcpy(tag, "latest", 7);
    } else if (n < 5 || (strcasecmp(tag + n - 5, ".gguf") && strcasecmp(tag + n - 5, ".onnx"))) {
        for (; *tag; tag++) *tag = (char)toupper((unsigned char)*tag);
    }
}

static sl_status parse_last(const char *text, struct store_name *out, struct sl_err *err)
{
    const char *colon = strchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    sl_status status = set_part(out->model, text, n, "model", err);
    const char *tag = colon ? colon + 1 : "latest";
    out->tagged = colon;
    if (status == SL_OK) status = set_part(out->tag, tag, strlen(tag), "tag", err);
    if (status == SL_OK && out->source == STORE_HF) normalise_hf_tag(out->tag);
    return status;
}

static sl_status parse_registry_name(const char *text, struct store_name *out, struct sl_err *err)
{
    const char *slash = strchr(text, '/');
    sl_status status = SL_OK;
    memcpy(out->host, STORE_OLLAMA_HOST, sizeof STORE_OLLAMA_HOST);
    memcpy(out->space, "library", sizeof "library");
    if (slash && looks_like_host(text, (size_t)(slash - text))) {
        status = set_host(out, text, (size_t)(slash - text), err);
        text = slash + 1;
        slash = strchr(text, '/');
        if (status == SL_OK && !slash)
            status = sl_err_set(err, SL_INVALID,
                                "model name: after the host come two parts, "
                                "as in hf.co/org/repo");
    }
    if (status == SL_OK && slash) {
        status = set_part(out->space, text, (size_t)(slash - text), "owner", err);
        text = slash + 1;
    }
    return status == SL_OK ? parse_last(text, out, err) : status;
}

sl_status store_name_parse(const char *text, struct store_name *out, struct sl_err *err)
{
    struct store_name name = {.source = STORE_OLLAMA};
    const char *scheme = strstr(text, "://");
    sl_status status;
    if (strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0)
        status = parse_url(text, (size_t)(scheme - text), &name, err);
    else if (scheme)
        status = sl_err_set(err, SL_INVALID, "URL: only https:// (and http://) can be pulled");
    else
        status = parse_registry_name(text, &name, err);
    if (status == SL_OK) *out = name;
    return status;
}

void store_name_text(const struct store_name *name, char out[STORE_NAME_SIZE])
{
    bool own = strcmp(name->host, STORE_OLLAMA_HOST) == 0;
    bool library = own && strcmp(name->space, "library") == 0;
    if (name->source == STORE_URL)
        memcpy(out, name->url, sizeof name->url);
    else
        snprintf(out, STORE_NAME_SIZE, "%s%s%s%s%s:%s", own ? "" : name->host, own ? "" : "/",
                 library ? "" : name->space, library ? "" : "/", name->model, name->tag);
}

void store_name_path(const struct store_name *name, char out[STORE_NAME_PATH_SIZE])
{
    snprintf(out, STORE_NAME_PATH_SIZE, "%s/%s/%s/%s", name->host, name->space, name->model,
             name->tag);
}

/* The digits of s[0..SHARD_DIGITS), -1 when they are not. */
static int shard_number(const char *s)
{
    int v = 0;
    for (int i = 0; i < SHARD_DIGITS; i++) {
        if (!isdigit((unsigned char)s[i])) return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

bool store_split_name(const char *file, size_t *prefix_len, int *no, int *n)
{
    static const size_t n_suffix = sizeof "-00001-of-00005.gguf" - 1;
    size_t len = strlen(file);
    if (len <= n_suffix) return false;
    const char *s = file + len - n_suffix;
    if (s[0] != '-' || strncmp(s + 6, "-of-", 4) != 0 || strcmp(s + 15, ".gguf") != 0) return false;
    int first = shard_number(s + 1), count = shard_number(s + 10);
    if (first < 1 || count < first) return false;
    *prefix_len = len - n_suffix;
    *no = first - 1;
    *n = count;
    return true;
}

sl_status store_name_of_file(const char *path, struct store_name *out, struct sl_err *err)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    char text[STORE_PART_SIZE];
    size_t n = strlen(file), n_prefix, n_text = 0;
    int no, n_shards;
    if (store_split_name(file, &n_prefix, &no, &n_shards))
        n = n_prefix;
    else if (n > 5 && (!strcasecmp(file + n - 5, ".gguf") || !strcasecmp(file + n - 5, ".onnx")))
        n -= 5;
    for (size_t i = 0; i < n && n_text < sizeof text - 1; i++) {
        char c = is_part_char(file[i], false) ? (char)tolower((unsigned char)file[i]) : '-';
        if (n_text > 0 || isalnum((unsigned char)c)) text[n_text++] = c;
    }
    text[n_text] = '\0';
    if (n_text == 0)
        return sl_err_set(err, SL_INVALID, "%.100s: no name can be made of it; give --name", path);
    return store_name_parse(text, out, err);
}
