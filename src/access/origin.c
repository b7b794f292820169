#include "access/origin.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 256 /* DNS names have at most 253 characters */

static bool begins(const char *text, const char *with)
{
    return !strncasecmp(text, with, strlen(with));
}

/* The host of "host", "host:port" or "[v6]:port", without brackets. False: it is none. */
static bool split_host(const char *text, char out[HOST_MAX])
{
    const char *end = text[0] == '[' ? strchr(text, ']') : strrchr(text, ':');
    if (text[0] == '[' && !end) return false;
    size_t n = end ? (size_t)(end - text) : strlen(text);
    size_t skip = text[0] == '[';
    if (n <= skip || n - skip >= HOST_MAX) return false;
    memcpy(out, text + skip, n - skip);
    out[n - skip] = '\0';
    return true;
}

static bool is_local_name(const char *host)
{
    static const char suffix[] = ".localhost"; /* RFC 6761, section 6.3 */
    size_t n = strlen(host);
    if (!strcasecmp(host, "localhost")) return true;
    return n > sizeof suffix - 1 && !strcasecmp(host + n - (sizeof suffix - 1), suffix);
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (is_local_name(host)) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_in_list(const char *origin, const char *list)
{
    size_t n = strlen(origin);
    while (list && *list) {
        const char *comma = strchr(list, ',');
        size_t len = comma ? (size_t)(comma - list) : strlen(list);
        if (len == 1 && *list == '*') return true;
        if (len == n && !strncasecmp(origin, list, n)) return true;
        list += len + (comma != NULL);
    }
    return false;
}

bool origin_host_is_ours(const char *host, const char *more)
{
    char name[HOST_MAX], origin[HOST_MAX + 16];
    struct in_addr v4;
    struct in6_addr v6;
    if (!split_host(host, name)) return false;
    if (is_local_name(name) || inet_pton(AF_INET, name, &v4) == 1 ||
        inet_pton(AF_INET6, name, &v6) == 1)
        return true;
    if (strlen(host) >= HOST_MAX) return false;
    snprintf(origin, sizeof origin, "https://%s", host);
    if (is_in_list(origin, more)) return true;
    snprintf(origin, sizeof origin, "http://%s", host);
    return is_in_list(origin, more);
}

bool origin_is_allowed(const char *origin, const char *more)
{
    static const char *const apps[] = {"app://", "file://", "tauri://", "vscode-webview://"};
    char host[HOST_MAX];
    for (size_t i = 0; i < sizeof apps / sizeof apps[0]; i++)
        if (begins(origin, apps[i])) return true;
    const char *rest = begins(origin, "http://")    ? origin + strlen("http://")
                       : begins(origin, "https://") ? origin + strlen("https://")
                                                    : NULL;
    if (rest && !strpbrk(rest, "/@?#") && split_host(rest, host) && is_loopback(host)) return true;
    return is_in_list(origin, more);
}
