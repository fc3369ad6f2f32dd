/* json_out.h - the documents of --json. Values that are not finite become null; bytes that are not UTF-8
 * become U+FFFD. Every builder returns a new reference, NULL when out of memory. */
#ifndef GRAFT_JSON_OUT_H
#define GRAFT_JSON_OUT_H
#include "cli.h"
#include <jansson.h>

json_t *doc_number(double value);
json_t *doc_text(const char *text); /* NULL text: null */
/* document[key] = value, both taken over; NULL where either is NULL or there is no memory. */
json_t *doc_with(json_t *document, const char *key, json_t *value);
/* Reads a document; NULL where it is none, or there is no memory. */
json_t *doc_parse(const char *text);
json_t *doc_memory(const graft_memory *memory);
json_t *doc_plan(const graft_plan *plan);
json_t *doc_train(const graft_train_result *result);
json_t *doc_eval(const graft_eval_result *result);
json_t *doc_generation(const graft_generation *generation);
json_t *doc_answer(const graft_answer *answer);
json_t *doc_row(const graft_row *row, bool rendered);
json_t *doc_bench(const graft_bench_result *result);
json_t *doc_bench_load(const graft_bench_load_result *result);
json_t *doc_bench_checkpoint(const graft_bench_checkpoint_result *result);
json_t *doc_bench_accumulate(const graft_bench_accumulate_result *result);
json_t *doc_bench_curves(const graft_bench_curves_result *result);
json_t *doc_bench_tokenize(const graft_bench_tokenize_result *result);
json_t *doc_bench_generate(const graft_bench_generate_result *result);

json_t *doc_convert(const graft_convert_result *result);
json_t *doc_download(const char *model, const graft_download_result *result);
json_t *doc_fuse(const graft_fuse_result *result);
json_t *doc_export(const graft_export_result *result, const char *out);

/* Writes one document and a line end to stdout and drops the reference; a NULL document is GRAFT_NO_MEMORY.
 * A line is compact, a document indented. */
graft_status doc_print(cli *c, json_t *document, bool line);

#endif
