/* origin.h: which web pages may use the service from a browser.
 * Without keys anybody who can reach the port may use it; a page from anywhere, open in a browser
 * on this machine, can reach it too. Its requests bear an Origin that is not ours (Fetch Standard,
 * section 3.2), or, when its name was made to lead here (DNS rebinding), a Host that is not ours.
 * Floor: access.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>

/* A page on this machine, a desktop app's own scheme (app:, file:, tauri:, vscode-webview:), or one
 * of `more`: origins with commas between ("https://chat.example.com"), or "*" for all. NULL:
 * none. */
bool origin_is_allowed(const char *origin, const char *more);

/* A Host header that names this machine: an address, localhost or a name below it, or the host of
 * one of `more` (behind a proxy that keeps the header). */
bool origin_host_is_ours(const char *host, const char *more);
