/* Any bytes as metrics.jsonl: curves have rising iterations, and the page about them is whole. */
#include "report/page.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check(const gr_metrics *m) {
    if (m->count > GR_METRICS_NAMES) abort();
    for (size_t i = 0; i < m->count; i++) {
        if (!memchr(m->list[i].name, 0, sizeof m->list[i].name)) abort();
        for (size_t k = 1; k < m->list[i].count; k++)
            if (!(m->list[i].x[k] > m->list[i].x[k - 1])) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_run run = {.name = "fuzz", .change = {.none = "nothing"}};
    gr_buf page = {0};
    json_t *numbers = NULL;
    if (gr_metrics_parse(&run.metrics, (const char *)data, size, "metrics.jsonl", &err) == GRAFT_OK) {
        check(&run.metrics);
        if (gr_page_html(&page, &run, 1, &err) != GRAFT_OK || !strstr(page.data, "</html>")) abort();
        if (strstr(page.data, "<script") || strstr(page.data, "<img")) abort();
        if (gr_page_numbers(&numbers, &run, 1, &err) != GRAFT_OK) abort();
    }
    json_decref(numbers);
    gr_buf_free(&page);
    gr_metrics_free(&run.metrics);
    return 0;
}
