/* convert/convert_events.h - what a conversion reports, as events of the host. Both take the host's
 * `const graft_hooks *` as context (may be NULL) and are called in the calling thread.
 */
#ifndef GR_CONVERT_CONVERT_EVENTS_H
#define GR_CONVERT_CONVERT_EVENTS_H
#include "convert/convert.h"

/* A gr_convert_progress: false once the host asks to stop. */
bool gr_convert_event(void *hooks, const char *tensor, size_t done, size_t total);
/* A gr_convert_say. */
void gr_convert_note(void *hooks, const char *sentence);

#endif
