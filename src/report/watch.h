/* report/watch.h - the page of a training while it goes on, served on this machine.
 * What it does: reads the adapter directory when somebody asks, in the server's own thread; what trains
 * shares nothing with it but a few counters. May include: base, files, http, adapters. Never: touches what
 * trains.
 *
 * GET /         the page (page.h), alive by a script of a few lines; without scripts it is the state of now
 * GET /parts    the part of the page that changes
 * GET /state    JSON: "version", which changes when they do, "state", a line in words, how far it is
 * GET /metrics  the same, and the numbers of the page
 */
#ifndef GR_REPORT_WATCH_H
#define GR_REPORT_WATCH_H
#include "base/memory.h"

typedef struct gr_watch gr_watch;
/* About what it takes while somebody looks: the adapter, read anew after each save, the numbers of all lines
 * of metrics.jsonl (a page and its JSON took 0.9 KB a line), the server. */
#define GR_WATCH_BYTES(parameters, lines)                                                                    \
    (((uint64_t)4 << 20) + (uint64_t)(parameters) * sizeof(float) + (uint64_t)(lines)*1536)
/* Listens at once on 127.0.0.1; dir need not be there yet. Owned by caller until gr_watch_close.
 * errors  as gr_serve_open: GRAFT_IO where the port is in use */
graft_status gr_watch_open(gr_watch **watch, const char *dir, int port, graft_error *err) GR_MUST_CHECK;
/* How far the run is; of one thread. The directory is looked at from the first time of "train" or "validate"
 * on: before, it holds what an earlier run left. */
void gr_watch_progress(gr_watch *watch, const char *phase, int64_t done, int64_t total);
/* The last word, for whoever looks: waits three seconds at most for them to see it. NULL is fine. */
void gr_watch_close(gr_watch *watch);

#endif
