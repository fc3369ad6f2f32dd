/* base/hooks.h - telling the host, and hearing its wish to stop. hooks may be NULL, and so may each of them.
 */
#ifndef GR_BASE_HOOKS_H
#define GR_BASE_HOOKS_H
#include "graft_hooks.h"
#include <stdbool.h>
#include <stddef.h>

static inline void gr_event(const graft_hooks *hooks, const graft_event *event) {
    if (hooks && hooks->event) hooks->event(hooks->user, event);
}

/* A sentence that the user should know; NULL: none. */
static inline void gr_note(const graft_hooks *hooks, const char *text) {
    if (text) gr_event(hooks, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

static inline void gr_progress(const graft_hooks *hooks, const char *phase, int64_t done, int64_t total) {
    gr_event(hooks,
             &(graft_event){.kind = GRAFT_EVENT_PROGRESS, .phase = phase, .done = done, .total = total});
}

/* The flag of graft_hooks.stop, or NULL, is up. Any thread or signal handler may raise it, so that it is read
 * as a whole. */
static inline bool gr_raised(const volatile int *stop) {
    return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

static inline bool gr_stopped(const graft_hooks *hooks) {
    return hooks && gr_raised(hooks->stop);
}

static inline const volatile int *gr_stop_of(const graft_hooks *hooks) {
    return hooks ? hooks->stop : NULL;
}

#endif
