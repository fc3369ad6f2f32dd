#include "convert/convert_events.h"
#include "base/hooks.h"
#include "graft.h"

static void send(const graft_hooks *hooks, const graft_event *event) {
    gr_event(hooks, event);
}

bool gr_convert_event(void *context, const char *tensor, size_t done, size_t total) {
    const graft_hooks *hooks = context;
    send(hooks, &(graft_event){.kind = GRAFT_EVENT_PROGRESS,
                               .phase = "convert",
                               .text = tensor,
                               .done = (int64_t)done,
                               .total = (int64_t)total});
    return !gr_stopped(hooks);
}

void gr_convert_note(void *context, const char *sentence) {
    send(context, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = sentence});
}
