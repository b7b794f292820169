/* admin_key.c: reads the file, and decides whom to show it to. */
#include "cli/admin_key.h"
#include "cli/cli.h"
#include "grid/identity.h"

#include <stdlib.h>
#include <string.h>

static bool read_key(char key[ADMIN_KEY_SIZE])
{
    char home[PATH_MAX], path[IDENTITY_PATH_SIZE];
    struct sl_buf text;
    sl_buf_init(&text, PKI_TEXT_MAX);
    bool ok = identity_path(cli_home(home, sizeof home), "admin.key", path, NULL) == SL_OK &&
              pki_file_read(path, &text, NULL) == SL_OK && text.len >= MEMBERSHIP_ADMIN_CHARS;
    if (ok) memcpy(key, text.data, MEMBERSHIP_ADMIN_CHARS);
    key[MEMBERSHIP_ADMIN_CHARS] = '\0';
    explicit_bzero(text.data, text.len);
    sl_buf_done(&text);
    return ok;
}

/* Does the URL name this machine? */
static bool is_here(const char *url)
{
    static const char *const hosts[] = {"http://127.",        "https://127.", "http://localhost:",
                                        "https://localhost:", "http://[::1]", "https://[::1]"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        if (strncmp(url, hosts[i], strlen(hosts[i])) == 0) return true;
    }
    return false;
}

sl_status admin_client_create(struct client_cfg *cfg, char key[ADMIN_KEY_SIZE], struct client **out,
                              struct sl_err *err)
{
    struct client *client = NULL;
    sl_status status = client_create(cfg, &client, err);
    if (status != SL_OK) return status;
    bool wanted = !cfg->api_key && is_here(client_server(client));
    if (!wanted || !read_key(key)) {
        *out = client;
        return SL_OK;
    }
    client_destroy(client);
    cfg->api_key = key;
    return client_create(cfg, out, err);
}
