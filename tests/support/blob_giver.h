/* blob_giver.h: a member of a test grid that gives what is in its store: TLS with the grid's
 * certificates, and blobs.h behind it. Thread: the loop's. Whatever fails here fails the test. */
#pragma once
#include "grid/fetch.h"
#include "net/pki.h"
#include "support/test_grid.h"

struct blob_giver {
    struct store *store;
    struct blobs *blobs;
    struct tls_server *tls;
    struct http_server *http;
    struct fetch_source source;
    int n_left;      /* requests until it refuses, this one too; 0: no limit */
    int n_requests;  /* that came */
    int holds_after; /* so many requests: the others are not answered; 0: all are */
    char last_peer[PKI_ID_SIZE];
};

/* Listens on loopback with that member's certificate; `name` is unique in the test. The grid's root
 * is at temp_path("root.pem"). */
void blob_giver_start(struct blob_giver *giver, struct loop *loop, const struct test_member *member,
                      const char *name);
void blob_giver_stop(struct blob_giver *giver);

/* Puts a GGUF file into its store; the model's digest goes to `digest`. */
void blob_giver_import(struct blob_giver *giver, const char *path, const char *model, char *digest);
uint64_t blob_giver_bytes(const struct blob_giver *giver); /* of files, that it has sent */

/* The grid's root for blob_giver_start, and the node's own certificate "me.cert.pem". */
void blob_grid_init(struct test_grid *grid);
