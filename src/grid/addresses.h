/* addresses.h: how other machines reach this one.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include "grid/member.h"

/* Writes hosts with commas between: first those the owner names, then, when listening everywhere
 * (host NULL or "*"), this machine's own addresses: IPv4 before IPv6, none of loopback,
 * link-local or down interfaces; and this machine's loopback address when there is no other. With
 * another host: that one. INVALID: a name that cannot be in an address. */
SL_CHECK sl_status addresses_find(const char *host, const char *const *advertise, size_t n,
                                  char out[MEMBER_ADDRESSES_SIZE], struct sl_err *err);

/* "prefix" + host + ":port" for each, with commas between: IPv6 hosts get brackets. What does not
 * fit is left out. */
void addresses_with_port(const char *hosts, const char *prefix, unsigned port,
                         char out[MEMBER_ADDRESSES_SIZE]);
