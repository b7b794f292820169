/* addresses.c: getifaddrs(3). */
#include "grid/addresses.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define HOST_CHARS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_:"

static bool is_host(const char *text)
{
    size_t n = strspn(text, HOST_CHARS);
    if (!n || text[n] || n > 253) return false;
    unsigned char v6[16];
    return !strchr(text, ':') || inet_pton(AF_INET6, text, v6) == 1;
}

static bool holds(const char *list, const char *item)
{
    char other[GRID_ADDRESS_SIZE];
    for (size_t i = 0; member_list_item(list, i, other, sizeof other); i++) {
        if (strcmp(other, item) == 0) return true;
    }
    return false;
}

static size_t count(const char *list)
{
    size_t n = *list != '\0';
    for (; *list; list++) n += *list == ',';
    return n;
}

static void add(char out[MEMBER_ADDRESSES_SIZE], const char *host)
{
    if (count(out) < MEMBER_ADDRESSES_MAX && !holds(out, host))
        (void)member_list_add(out, MEMBER_ADDRESSES_SIZE, host);
}

/* The text of an interface's address, unless others cannot reach it. */
static bool text_of(const struct ifaddrs *at, int family, char *out, size_t size)
{
    if (!at->ifa_addr || at->ifa_addr->sa_family != family) return false;
    if (!(at->ifa_flags & IFF_UP) || at->ifa_flags & IFF_LOOPBACK) return false;
    if (family == AF_INET) {
        const struct in_addr *v4 = &((const struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr;
        return inet_ntop(AF_INET, v4, out, (socklen_t)size) != NULL;
    }
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr;
    if (IN6_IS_ADDR_LINKLOCAL(v6)) return false; /* means nothing without its interface */
    return inet_ntop(AF_INET6, v6, out, (socklen_t)size) != NULL;
}

static void add_own(char out[MEMBER_ADDRESSES_SIZE])
{
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    if (getifaddrs(&all) != 0) return;
    for (int i = 0; i < 2; i++)
        for (const struct ifaddrs *at = all; at; at = at->ifa_next)
            if (text_of(at, families[i], text, sizeof text)) add(out, text);
    freeifaddrs(all);
}

sl_status addresses_find(const char *host, const char *const *advertise, size_t n,
                         char out[MEMBER_ADDRESSES_SIZE], struct sl_err *err)
{
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (!is_host(advertise[i]))
            return sl_err_set(err, SL_INVALID,
                              "\"%.60s\" is no address: a name, or an IPv4 or IPv6 address, "
                              "without a port",
                              advertise[i]);
        add(out, advertise[i]);
    }
    bool everywhere = !host || !*host || strcmp(host, "*") == 0;
    if (everywhere)
        add_own(out);
    else if (!is_host(host))
        return sl_err_set(err, SL_INVALID, "\"%.60s\" is no address", host);
    else
        add(out, host);
    if (!*out) add(out, "127.0.0.1");
    return SL_OK;
}

void addresses_with_port(const char *hosts, const char *prefix, unsigned port,
                         char out[MEMBER_ADDRESSES_SIZE])
{
    char host[GRID_ADDRESS_SIZE], item[GRID_ADDRESS_SIZE + 32];
    out[0] = '\0';
    for (size_t i = 0; member_list_item(hosts, i, host, sizeof host); i++) {
        bool v6 = strchr(host, ':') != NULL;
        snprintf(item, sizeof item, "%s%s%s%s:%u", prefix, v6 ? "[" : "", host, v6 ? "]" : "",
                 port);
        if (!member_list_add(out, MEMBER_ADDRESSES_SIZE, item)) return;
    }
}
