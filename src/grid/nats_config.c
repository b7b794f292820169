#include "grid/nats_config.h"
#include "base/strmap.h"
#include "net/pki.h"
#include <string.h>

/* All limits of the server that are not the caller's. A server answers a ping at once; one, or a
 * client, that misses two is gone. A subscriber may fall as far behind as two of the longest
 * messages before it is cut off. */
static const char LIMITS[] = "max_payload: 1048576\n"
                             "max_pending: 167772160\n"
                             "max_connections: 65536\n"
                             "max_subscriptions: 256\n"
                             "write_deadline: \"10s\"\n"
                             "ping_interval: \"2s\"\n"
                             "ping_max: 2\n";

struct writer { /* the first failure sticks */
    struct sl_buf *out;
    sl_status status;
};

static void put(struct writer *to, const char *fmt, ...) SL_PRINTF(2, 3);
static void put(struct writer *to, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (to->status == SL_OK) to->status = sl_buf_vaddf(to->out, fmt, args);
    va_end(args);
}

static void put_char(struct writer *to, char c)
{
    if (to->status == SL_OK) to->status = sl_buf_addc(to->out, c);
}

/* `key: "value"` with the escapes of the server's lexer. */
static void put_string(struct writer *to, const char *key, const char *value)
{
    put(to, "%s: \"", key);
    for (const char *at = value; *at; at++) {
        if (*at == '"' || *at == '\\') put_char(to, '\\');
        put_char(to, *at);
    }
    put(to, "\"\n");
}

static void put_listen(struct writer *to, const char *indent, const char *host, int port)
{
    put(to, "%shost: \"%s\"\n%sport: %d\n", indent, host ? host : "0.0.0.0", indent, port);
}

/* --- who --- */

static void put_pins(struct writer *to, const char *indent, const struct nats_access *access,
                     bool gateways_only)
{
    put(to, "%spinned_certs: [\n", indent);
    for (size_t i = 0; i < access->n_members; i++) {
        const struct nats_member *member = &access->members[i];
        if (member->gateway || !gateways_only) put(to, "%s  \"%s\"\n", indent, member->key);
    }
    put(to, "%s]\n", indent);
}

static void put_files(struct writer *to, const struct nats_config *config)
{
    put_string(to, "ca_file", config->ca);
    put_string(to, "cert_file", config->cert);
    put_string(to, "key_file", config->key);
    put(to, "timeout: 5\n");
}

/* A member speaks as itself and hears what is addressed to it, or to all. */
static void put_user(struct writer *to, const struct nats_member *member)
{
    const char *id = member->id;
    put(to, "  { user: \"%s" PKI_DNS_SUFFIX "\", permissions: {\n", id);
    put(to, "    publish: { allow: [\"sl.answer.*.%s\", \"sl.report.%s\", \"sl.ping.*.%s\"", id, id,
        id);
    put(to, ", \"sl.stage.*.%s\"", id);
    if (member->gateway) put(to, ", \"sl.run.*.%s\", \"sl.registry.%s\"", id, id);
    put(to, "] }\n    subscribe: { allow: [\"sl.run.%s.*\", \"sl.ping.%s.*\"", id, id);
    put(to, ", \"sl.stage.%s.*\"", id);
    if (member->gateway) put(to, ", \"sl.answer.%s.*\"", id);
    put(to, ", \"sl.report.*\", \"sl.registry.*\"] } } }\n");
}

static void put_clients(struct writer *to, const struct nats_config *config)
{
    const struct nats_access *access = &config->access;
    put(to, "tls {\n");
    put_files(to, config);
    put(to, "verify_and_map: true\n");
    put_pins(to, "", access, false);
    put(to, "}\nauthorization {\ntimeout: 5\nusers: [\n");
    for (size_t i = 0; i < access->n_members; i++) put_user(to, &access->members[i]);
    put(to, "]\n}\n");
}

/* --- other servers --- */

static bool has_jetstream(const struct nats_config *config)
{
    return config->memory_bytes || config->disk_bytes;
}

/* The route to itself does nothing but satisfy JetStream, which in a cluster starts with routes
 * only, and must not find itself in another mode when the second gateway comes.
 * `insecure` is about names: the side that dials does not compare the certificate with the address.
 * That it is signed by the grid the side that answers checks, and both compare the key with the
 * pins. */
static void put_cluster(struct writer *to, const struct nats_config *config)
{
    put(to, "cluster {\n  name: \"starlane\"\n");
    put_listen(to, "  ", config->host, config->cluster_port);
    put(to, "tls {\n");
    put_files(to, config);
    put(to, "insecure: true\n");
    put_pins(to, "", &config->access, true);
    put(to, "}\nroutes: [\n");
    if (has_jetstream(config))
        put(to, "  \"nats-route://%s:%d\"\n", config->host ? config->host : "127.0.0.1",
            config->cluster_port);
    for (size_t i = 0; i < config->access.n_routes; i++)
        put(to, "  \"nats-route://%s\"\n", config->access.routes[i]);
    put(to, "]\n}\n");
}

/* The user and password of a leaf node are no secret: the key is what counts. Without them, the
 * server would take it for the member, who may speak as itself alone, not as its site. */
static void put_leafnodes(struct writer *to, const struct nats_config *config)
{
    put(to, "leafnodes {\n");
    put_listen(to, "  ", config->host, config->leaf_port);
    put(to, "authorization: { user: \"leaf\", password: \"leaf\" }\ntls {\n");
    put_files(to, config);
    put(to, "verify: true\n");
    put_pins(to, "", &config->access, true);
    put(to, "}\n}\n");
}

static void put_jetstream(struct writer *to, const struct nats_config *config)
{
    put(to, "jetstream {\n");
    put_string(to, "store_dir", config->store_folder);
    put(to, "max_memory_store: %llu\nmax_file_store: %llu\n}\n",
        (unsigned long long)config->memory_bytes, (unsigned long long)config->disk_bytes);
}

/* --- checks --- */

static bool is_among(const char *text, const char *allowed)
{
    return *text && !text[strspn(text, allowed)];
}

#define HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_[]"

static bool is_path(const char *path)
{
    if (!path || !*path) return false;
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < ' ') return false;
    return true;
}

static sl_status check_member(const struct nats_member *member, struct sl_strmap *seen,
                              struct sl_err *err)
{
    const char *id = member->id;
    if (!id || !pki_id_valid(id))
        return sl_err_set(err, SL_INVALID, "\"%s\" is not a member's id", id ? id : "");
    if (!member->key || strlen(member->key) != 64 || !is_among(member->key, "0123456789abcdef"))
        return sl_err_set(err, SL_INVALID, "member %s: its key's hash is not 64 hex digits", id);
    if (sl_strmap_get(seen, id, strlen(id), 0))
        return sl_err_set(err, SL_INVALID, "member %s is listed twice", id);
    if (sl_strmap_put(seen, id, strlen(id), 1) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "out of memory");
    return SL_OK;
}

static sl_status check_access(const struct nats_access *access, struct sl_err *err)
{
    if (access->n_members > NATS_MEMBERS_MAX || access->n_routes > NATS_ROUTES_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d members or %d routes", NATS_MEMBERS_MAX,
                          NATS_ROUTES_MAX);
    for (size_t i = 0; i < access->n_routes; i++)
        if (!is_among(access->routes[i], HOST_CHARS))
            return sl_err_set(err, SL_INVALID, "\"%s\" is not the address of a server",
                              access->routes[i]);
    struct sl_strmap seen;
    if (sl_strmap_init(&seen, access->n_members) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "out of memory");
    sl_status status = SL_OK;
    for (size_t i = 0; i < access->n_members && status == SL_OK; i++)
        status = check_member(&access->members[i], &seen, err);
    sl_strmap_done(&seen);
    return status;
}

static sl_status check(const struct nats_config *config, struct sl_err *err)
{
    const char *paths[] = {config->ca, config->cert, config->key, config->pid_path};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (!is_path(paths[i]))
            return sl_err_set(err, SL_INVALID, "\"%s\" cannot be the path of a file",
                              paths[i] ? paths[i] : "");
    if (has_jetstream(config) && !is_path(config->store_folder))
        return sl_err_set(err, SL_INVALID, "JetStream has no folder");
    if (config->host && !is_among(config->host, HOST_CHARS))
        return sl_err_set(err, SL_INVALID, "\"%s\" is not an address to listen on", config->host);
    if (!config->server_name || !pki_id_valid(config->server_name))
        return sl_err_set(err, SL_INVALID, "the server's name is not a member's id");
    return check_access(&config->access, err);
}

sl_status nats_config_write(const struct nats_config *config, struct sl_buf *out,
                            struct sl_err *err)
{
    struct writer to = {.out = out};
    sl_status status = check(config, err);
    if (status != SL_OK) return status;
    put(&to, "# Written by starlane, which replaces it.\nserver_name: \"%s\"\n",
        config->server_name);
    put_listen(&to, "", config->host, config->client_port);
    put_string(&to, "pid_file", config->pid_path);
    put(&to, "%s", LIMITS);
    put_clients(&to, config);
    put_cluster(&to, config);
    if (config->leaf_port) put_leafnodes(&to, config);
    if (has_jetstream(config)) put_jetstream(&to, config);
    return to.status == SL_OK ? SL_OK : sl_err_set(err, to.status, "nats-server's configuration");
}
