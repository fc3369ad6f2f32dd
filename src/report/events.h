/* report/events.h - TensorBoard's event files: the numbers of metrics.jsonl as it reads them.
 * What it does: one file for each process that trains, records with their checksums, the few fields of the
 * protocol buffers by hand. May include: base, files. Never: needs TensorFlow.
 */
#ifndef GR_REPORT_EVENTS_H
#define GR_REPORT_EVENTS_H
#include "base/memory.h"

typedef struct gr_events gr_events;
/* A new file in dir/logs (made if missing). iteration above 0: the run goes on behind that one, and readers
 * drop what earlier files say of later ones. Owned by caller until
 * gr_events_close. */
graft_status gr_events_open(gr_events **events, const char *dir, int64_t iteration,
                            graft_error *err) GR_MUST_CHECK;
/* Every number of a line of metrics.jsonl, at its iteration: train_loss is train/loss and so on; a name that
 * is not known stays. */
graft_status gr_events_line(gr_events *events, const char *line, size_t len, graft_error *err) GR_MUST_CHECK;
/* Removes the event files of earlier runs in dir/logs. */
void gr_events_forget(const char *dir);
void gr_events_close(gr_events *events); /* NULL is fine */

/* A record as the file has it: length, checksum, bytes, checksum. source:
 * tensorflow/core/lib/io/record_writer.h */
void gr_events_record(gr_buf *out, const void *bytes, size_t n);
/* CRC-32C (Castagnoli), as RFC 3720, B.4 has it. */
uint32_t gr_crc32c(const void *bytes, size_t n);

#endif
