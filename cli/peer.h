/* peer.h - another program on the same training steps. The library describes the work (graft_bench_export);
 * the command line starts the program: a script in tools/peers run by the Python of the environment that
 * tools/peers/setup makes. */
#ifndef GRAFT_PEER_H
#define GRAFT_PEER_H
#include "json_out.h"

typedef struct peer {
    graft_bench_peer result; /* borrows from document and losses */
    json_t *document;        /* the line that the program printed */
    double *losses;          /* owned */
    /* describes the work in a directory; NULL: only whether it could */
    graft_status (*export)(const graft_options *, const graft_hooks *, const char *, graft_error *);
    char python[4096], script[4096];
    char way[32]; /* the script's second argument; "-": none */
} peer;

/* Whether `export` can describe the work; finds Python and script of options.peer. Before anything is
 * measured; no peer: nothing to do. */
graft_status peer_find(cli *c, peer *p,
                       graft_status (*export)(const graft_options *, const graft_hooks *, const char *,
                                              graft_error *));
/* Runs it on the steps of c->options. Owned by caller until peer_free. */
graft_status peer_run(cli *c, peer *p);
/* A number of its document. */
double peer_number(const peer *p, const char *name);
void peer_free(peer *p);

#endif
