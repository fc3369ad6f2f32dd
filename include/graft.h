/* graft.h - fine-tunes language models on the machine you have.
 *
 *     graft_options o;
 *     graft_error err = {0};
 *     graft_options_init(&o);
 *     graft_options_set(&o, GRAFT_VERB_TRAIN, "model", "model-4bit", &err);
 *     graft_options_set(&o, GRAFT_VERB_TRAIN, "data", "data", &err);
 *     if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) puts(err.what);
 *     graft_options_free(&o);
 *
 * Options have the names of the command line's flags (`graft train --help`). This header includes the others,
 * one for each thing to do; each also stands alone.
 *
 * The library never prints, exits, installs signal handlers or keeps global state: two trainings in two
 * threads of one process are independent. Every call returns a graft_status and fills the caller's
 * graft_error (may be NULL). Strings are UTF-8. Sizes are bytes where the name says so. Objects are owned by
 * the caller until their free call.
 */
#ifndef GRAFT_H
#define GRAFT_H
#include "graft_bench.h"
#include "graft_chat.h"
#include "graft_hooks.h"
#include "graft_infer.h"
#include "graft_models.h"
#include "graft_options.h"
#include "graft_plan.h"
#include "graft_ranks.h"
#include "graft_report.h"
#include "graft_status.h"
#include "graft_sweep.h"
#include "graft_train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of these headers. */
#define GRAFT_VERSION "0.1.0"
/* Of the library that is linked. Structs of this version fit where MAJOR.MINOR is the same. Static. */
const char *graft_version(void);

#ifdef __cplusplus
}
#endif
#endif
