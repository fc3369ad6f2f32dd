/* Any bytes as what a report reads: metrics.jsonl, behind a NUL run.json, behind another samples.json. Curves
 * have rising iterations, and the page about them is whole and holds no markup of theirs. */
#include "report/page.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const gr_metrics *m) {
    if (m->count > GR_METRICS_NAMES) abort();
    for (size_t i = 0; i < m->count; i++) {
        if (!memchr(m->list[i].name, 0, sizeof m->list[i].name)) abort();
        for (size_t k = 1; k < m->list[i].count; k++)
            if (!(m->list[i].x[k] > m->list[i].x[k - 1])) abort();
    }
}

/* Up to the next NUL; *at moves behind it. */
static const char *part_of(const uint8_t **at, const uint8_t *end, size_t *n) {
    const uint8_t *start = *at, *stop = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
    *n = (size_t)((stop ? stop : end) - start);
    *at = stop ? stop + 1 : end;
    return (const char *)start;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char place[] = "fuzz";
    graft_error err = {0};
    gr_run runs[2] = {{.dir = place, .name = "fuzz", .change = {.none = "nothing"}}};
    gr_buf page = {0};
    json_t *numbers = NULL;
    const uint8_t *end = data + size;
    size_t n, record, samples;
    const char *metrics = part_of(&data, end, &n), *first = part_of(&data, end, &record),
               *second = part_of(&data, end, &samples);
    if (gr_metrics_parse(&runs[0].metrics, metrics, n, "metrics.jsonl", &err) == GRAFT_OK) {
        check(&runs[0].metrics);
        runs[0].record = json_loadb(first, record, 0, NULL);
        runs[0].samples = json_loadb(second, samples, 0, NULL);
        runs[1] = runs[0];
        for (size_t count = 1; count <= 2; count++) {
            gr_buf_clear(&page);
            if (gr_page_html(&page, runs, count, &err) != GRAFT_OK || !strstr(page.data, "</html>")) abort();
            if (strstr(page.data, "<script") || strstr(page.data, "<img")) abort();
        }
        if (gr_page_numbers(&numbers, runs, 1, &err) != GRAFT_OK) abort();
    }
    json_decref(numbers);
    json_decref(runs[0].record);
    json_decref(runs[0].samples);
    gr_buf_free(&page);
    gr_metrics_free(&runs[0].metrics);
    return 0;
}
