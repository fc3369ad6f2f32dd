/* bench_out.h - the benchmarks of `graft bench`, one file bench_NAME_out.c each, and what they share. */
#ifndef GRAFT_BENCH_OUT_H
#define GRAFT_BENCH_OUT_H
#include "json_out.h"

/* Measures, prints the table and draws the picture, or prints the document. */
graft_status bench_load(cli *c);
graft_status bench_train(cli *c);
graft_status bench_checkpoint(cli *c);
graft_status bench_accumulate(cli *c);
graft_status bench_kernels(cli *c);
graft_status bench_tokenize(cli *c);
graft_status bench_curves(cli *c);
graft_status bench_generate(cli *c);

/* cmd_bench.c */
/* Where the picture goes; NULL: nowhere. */
const char *bench_picture_path(cli *c, char *path, size_t size);
/* After the figures: they count even where no picture can be written. One that nobody asked for is no failure
 * either. */
graft_status bench_picture_written(cli *c, graft_status status, const char **path);
/* The document with the picture's name, or one line below the table. Takes the document over; returns `drawn`
 * unless printing fails. */
graft_status bench_finish(cli *c, json_t *document, const char *path, graft_status drawn);
/* Cells of a table; "-" for what was not measured. */
const char *cell_percent(out_buf *b, double value);
const char *cell_size(out_buf *b, uint64_t bytes);
const char *cell_time(out_buf *b, double seconds);

#endif
